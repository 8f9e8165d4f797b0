"""One game as a Gymnasium environment that shows stacks of frames, to evaluate a policy in."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.games.stepping import Environments, observation_shape


class SingleGame(gymnasium.Env):
    """A game whose observation is a whole stack, with episodes that begin by `reset` alone.

    make:  a function that makes one of `envs.games.stepping.Environments`

    The rest of a game depends on the seed of its last reset and the actions since. Observations are
    float32, as networks for evaluation read them, in the unit of the frames.
    """

    def __init__(self, make: Callable[[], Environments]) -> None:
        self._games = make()
        if self._games.count != 1:
            raise ValueError(f"one game is needed, not {self._games.count}")
        shape = observation_shape(self._games)
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, dtype=np.float32)
        self.action_space = spaces.Discrete(self._games.actions)
        self._observation = np.zeros(shape, dtype=np.float32)

    def _shown(self, frame: np.ndarray) -> np.ndarray:
        kept = self._observation[len(frame) :]
        self._observation = np.concatenate([kept, frame.astype(np.float32)])
        return self._observation.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new game."""
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(2**31)) if seed is None else seed
        self._observation = np.zeros_like(self._observation)
        return self._shown(self._games.reset(chosen)[0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one agent step."""
        self._games.send(np.array([action]))
        frame, reward, terminated, truncated, _ = self._games.receive()
        observation = self._shown(frame[0])
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        """Give back the game."""
        self._games.close()
