"""Stable-Baselines3's DQN on ale-py's native emulators: the peer of `benchmarks.dqn`.

Its own Atari wrappers need OpenCV and step one emulator at a time in Python. Here it gets the same
native emulators as this project, with stacks made by them, which is faster than its own way.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv


class NativeAtari(VecEnv):
    """ale-py's vector environment in the form that Stable-Baselines3 asks for."""

    def __init__(self, rom: str, count: int) -> None:
        self._games = AtariVectorEnv(
            rom,
            count,
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
            reward_clipping=True,
            use_fire_reset=False,
        )
        super().__init__(
            count, self._games.single_observation_space, self._games.single_action_space
        )

    def reset(self) -> np.ndarray:
        """Begin all games."""
        return self._games.reset(seed=0)[0]

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step."""
        self._games.send(actions)

    def step_wait(self) -> Any:
        """Wait for its end."""
        observation, reward, terminated, truncated, info = self._games.recv()
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(done):
            infos[index]["terminal_observation"] = info["final_obs"][index]
            infos[index]["TimeLimit.truncated"] = bool(truncated[index] & ~terminated[index])
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Give back the emulators."""
        self._games.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return nothing known of the emulators."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Ignore."""

    def env_method(self, method_name: str, *_: Any, **__: Any) -> Sequence[Any]:
        """Call nothing."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that nothing is wrapped."""
        return [False] * self.num_envs


def peer(rom: str, count: int, capacity: int, starts: int, compact: bool = False) -> DQN:
    """Return Stable-Baselines3's DQN with the settings of the benchmark."""
    several = {"train_freq": (1, "step"), "gradient_steps": count // 4} if count > 1 else {}
    if compact:
        several |= {"optimize_memory_usage": True}
        several |= {"replay_buffer_kwargs": {"handle_timeout_termination": False}}
    return DQN(
        "CnnPolicy",
        NativeAtari(rom, count),
        buffer_size=capacity,
        learning_starts=starts,
        batch_size=32,
        exploration_initial_eps=0.1,
        exploration_final_eps=0.1,
        seed=0,
        device="cpu",
        **{"train_freq": 4, **several},
    )
