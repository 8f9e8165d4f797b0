"""Atari games on ale-py's native vector environment, with everything that a score depends on.

The emulators show single frames; stacks are put together where they are learned from. Rewards are
the game's own. A new game begins in the step after the last one ended, so that the frame of a
terminated or truncated step is the true last one. Where lives count, a lost life terminates the
value and the game continues; the end of a game shows in the number of its frames, which falls.
"""

import importlib
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

from envs.games.stepping import GameStep
from envs.names import closest_names
from neural_tdc.randomness import generator

ATARI = "ALE/"
SIDE = 84
FRAME_SKIP = 4
STACK = 4


class Protocol(NamedTuple):
    """What is done to a game before anybody plays it. The defaults are those of Mnih et al. 2015.

    sticky_actions:   probability that the emulator repeats the last action for a frame; 0.25 in
                      Machado et al. 2018 and in Gymnasium's ALE/…-v5
    noop_max:         up to so many steps of doing nothing begin a game, their number drawn
    frame_limit:      emulated frames after which a game is cut; 108,000 are 30 minutes
    full_action_set:  all 18 actions in place of those the game knows
    life_loss:        a lost life terminates the value, though not the game
    fire_reset:       a game that waits for the fire button gets it pressed
    """

    sticky_actions: float = 0.0
    noop_max: int = 30
    frame_limit: int = 108_000
    full_action_set: bool = False
    life_loss: bool = True
    fire_reset: bool = False


NATURE = Protocol()


def rom_name(name: str) -> str:
    """Return ale-py's name of the game of an id such as ALE/Pong-v5, or of a bare name like Pong.

    ValueError: ale-py is not installed, or knows no such game.
    """
    try:
        gymnasium.register_envs(importlib.import_module("ale_py"))
    except ImportError:
        raise ValueError(
            f"{name} needs the package ale-py, which is not installed: pip install ale-py"
        ) from None
    known = [id_ for id_ in gymnasium.registry if id_.startswith(ATARI)]
    if name not in known:
        likely = ", ".join(closest_names(name, known)) or "none"
        raise ValueError(f"unknown game {name!r} of ale-py; nearest names: {likely}")
    return str(gymnasium.spec(name).kwargs["game"])


class AtariEnvironments:
    """Several emulators of one game that step in their own threads.

    See `envs.games.stepping.Environments`. An emulator has no state that can be stored.
    """

    stack = STACK
    frame_shape: tuple[int, ...] = (1, SIDE, SIDE)
    dtype = "uint8"
    scale = 1 / 255

    def __init__(
        self, name: str, count: int, protocol: Protocol = NATURE, threads: int = 0
    ) -> None:
        rom = rom_name(name)
        vector = importlib.import_module("ale_py.vector_env")
        self.name, self.count = name, count
        self._games = vector.AtariVectorEnv(
            rom,
            count,
            num_threads=threads,
            autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP,
            img_height=SIDE,
            img_width=SIDE,
            stack_num=1,
            frameskip=FRAME_SKIP,
            reward_clipping=False,
            episodic_life=False,
            life_loss_info=protocol.life_loss,
            repeat_action_probability=protocol.sticky_actions,
            noop_max=protocol.noop_max,
            max_num_frames_per_episode=protocol.frame_limit,
            full_action_space=protocol.full_action_set,
            use_fire_reset=protocol.fire_reset,
        )
        self.actions = int(self._games.single_action_space.n)
        self.protocol: dict[str, Any] = {
            "environment": name,
            "ale_py": importlib.import_module("ale_py").__version__,
            "frame_skip": FRAME_SKIP,
            "frame_stack": STACK,
            "actions": self.actions,
            **protocol._asdict(),
        }
        self._frames = np.zeros(count, dtype=np.int64)
        self._ended = np.zeros(count, dtype=bool)

    def reset(self, seed: int) -> np.ndarray:
        """Begin a new game everywhere; return the frames [environment, …].

        Environment i depends on (seed, i) only.
        """
        seeds = [
            int(torch.randint(2**31, (), generator=generator(seed, "environment", index)))
            for index in range(self.count)
        ]
        frame, info = self._games.reset(seed=np.array(seeds))
        self._frames = info["episode_frame_number"].copy()
        self._ended[:] = False
        return frame

    def send(self, action: np.ndarray) -> None:
        """Give the emulators their actions, [environment]; they begin at once."""
        self._games.send(np.ascontiguousarray(action, dtype=np.int64))

    def receive(self) -> GameStep:
        """Wait for the emulators."""
        frame, reward, terminated, truncated, info = self._games.recv()
        frames = info["episode_frame_number"]
        # A lost life looks like an end until the next step, whose frames are then counted further.
        reset = self._ended & (frames <= self._frames)
        terminated, truncated = terminated & ~reset, truncated & ~reset
        self._frames, self._ended = frames.copy(), terminated | truncated
        return GameStep(frame, reward.astype(np.float32), terminated, truncated, reset)

    def state(self) -> None:
        """Return None: games begin anew where a run is resumed."""

    def load(self, state: dict[str, Any]) -> None:
        """Raise ValueError: there is no state to load."""
        raise ValueError(f"the state of {self.name} cannot be stored")

    def close(self) -> None:
        """Give back the emulators."""
        self._games.close()
