"""Gymnasium environments with discrete actions, MinAtar's games among them, for an agent that acts.

Control problems show vectors of float32. MinAtar's games show ten by ten cells in some channels, 0
or 1 (Young and Tian 2019, arXiv 1903.03176), kept as bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from envs.control.environments import (
    discrete_actions,
    make,
    observation_encoder,
    registered_name,
)
from envs.games.saved_state import can_be_saved, load, save
from envs.games.stepping import GameStep
from envs.names import closest_names
from neural_tdc.randomness import generator

MINATAR = "MinAtar/"
# MinAtar's own probability that an action is ignored and the last one repeated.
MINATAR_STICKY = 0.1


class GymnasiumEnvironments:
    """Several Gymnasium environments in this process; see `envs.games.stepping.Environments`.

    name:      how scores call it
    make:      a function that makes one environment, time limit included
    count:     how many
    protocol:  what is added to the protocol that goes with a score

    Raises ValueError where actions are not discrete or observations have no fixed size.
    """

    stack = 1

    def __init__(
        self,
        name: str,
        make: Callable[[], gymnasium.Env],
        count: int,
        protocol: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.count, self._make = name, count, make
        self._environments = [make() for _ in range(count)]
        first = self._environments[0]
        self.actions, self._lowest = discrete_actions(name, first.action_space)
        shape, self._encode = observation_encoder(name, first.observation_space)
        space = first.observation_space
        # Pictures of whole numbers, or of cells that are there or not: the channel comes first.
        whole = getattr(space, "dtype", None) in (np.dtype(np.uint8), np.dtype(bool))
        self._is_picture = len(shape) == 3 and whole
        self.frame_shape = (shape[2], *shape[:2]) if self._is_picture else shape
        self.dtype = "uint8" if self._is_picture else "float32"
        self.scale = 1 / 255 if self._is_picture and space.dtype == np.uint8 else 1.0
        limit = getattr(first.spec, "max_episode_steps", None)
        self.protocol = {"environment": name, "time_limit_steps": limit, **(protocol or {})}
        self._ended = np.zeros(count, dtype=bool)
        self._actions = np.zeros(count, dtype=np.int64)
        self._storable: bool | None = None

    def _frame(self, observation: Any) -> np.ndarray:
        encoded = np.asarray(self._encode(observation), dtype=self.dtype)
        if self._is_picture:
            return encoded.transpose(2, 0, 1)
        return encoded.reshape(self.frame_shape)

    def reset(self, seed: int) -> np.ndarray:
        """Begin a new game everywhere; return the frames [environment, …].

        Environment i depends on (seed, i) only.
        """
        return self.reset_each([(seed, index) for index in range(self.count)])

    def reset_each(self, sources: Sequence[tuple[int, int]]) -> np.ndarray:
        """Begin a new game everywhere; return the frames [environment, …].

        sources: the (seed, index) of each environment, on which alone its game depends
        """
        self._ended[:] = False
        frames = []
        for environment, (seed, index) in zip(self._environments, sources, strict=True):
            source = generator(seed, "environment", index)
            own = int(torch.randint(2**31, (), generator=source))
            frames.append(self._frame(environment.reset(seed=own)[0]))
        return np.stack(frames)

    def send(self, action: np.ndarray) -> None:
        """Take the actions of the step to come: [environment], numbered from 0."""
        self._actions[:] = action

    def receive(self) -> GameStep:
        """Take the step; a game that ended in the last one begins anew in place of it."""
        return self.receive_some(np.arange(self.count))

    def receive_some(self, which: np.ndarray) -> GameStep:
        """Take the step in some environments alone, by their numbers: leaves are [some, …]."""
        count = len(which)
        frame = np.empty((count, *self.frame_shape), dtype=self.dtype)
        reward = np.zeros(count, dtype=np.float32)
        terminated, truncated = np.zeros((2, count), dtype=bool)
        reset, actions = self._ended[which], self._actions[which] + self._lowest
        for place, index in enumerate(which.tolist()):
            environment = self._environments[index]
            if reset[place]:
                frame[place] = self._frame(environment.reset()[0])
                continue
            observation, gain, over, cut, _ = environment.step(actions[place])
            frame[place] = self._frame(observation)
            reward[place], terminated[place], truncated[place] = gain, over, cut
        self._ended[which] = terminated | truncated
        return GameStep(frame, reward, terminated, truncated, reset)

    @property
    def ended(self) -> np.ndarray:
        """Return the numbers [some] of the environments whose next step begins a new game."""
        return np.flatnonzero(self._ended)

    def state(self) -> dict[str, Any] | None:
        """Return the state of all environments; None for those that cannot be put back into one."""
        if self._storable is None:
            self._storable = can_be_saved(self._make)
        if not self._storable:
            return None
        saved = {str(index): save(each) for index, each in enumerate(self._environments)}
        return {"ended": torch.from_numpy(self._ended.copy()), "environments": saved}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self.reset(0)
        self._ended = state["ended"].cpu().numpy().copy()
        for index, environment in enumerate(self._environments):
            load(environment, state["environments"][str(index)])

    def close(self) -> None:
        """Close all environments."""
        for environment in self._environments:
            environment.close()


def control(name: str, count: int) -> GymnasiumEnvironments:
    """Make several of a registered Gymnasium environment; ValueError in one line for a bad name."""
    return GymnasiumEnvironments(name, lambda: make(name), count)


def minatar(name: str, count: int, sticky_actions: float | None = None) -> GymnasiumEnvironments:
    """Make several of a game of MinAtar with its minimal set of actions, such as MinAtar/Breakout.

    sticky_actions:  probability that the last action is repeated in place of the one given; 0.1,
                     MinAtar's own, if not given
    Raises ValueError where the package is missing or the game unknown, with the nearest names.
    """
    plain = registered_name(name)
    known = sorted(known for known in gymnasium.registry if known.startswith(MINATAR))
    if plain not in known:
        likely = ", ".join(closest_names(plain, known) or known)
        raise ValueError(f"unknown game {name!r} of MinAtar; nearest names: {likely}")
    sticky = MINATAR_STICKY if sticky_actions is None else sticky_actions
    protocol = {
        "sticky_actions": sticky,
        "difficulty_ramping": True,
        "full_action_set": plain.endswith("-v0"),
    }
    return GymnasiumEnvironments(
        plain,
        lambda: gymnasium.make(plain, disable_env_checker=True, sticky_action_prob=sticky),
        count,
        protocol,
    )
