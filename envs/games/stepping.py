"""What an agent that learns to act sees of its environments: several games that step together."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


class GameStep(NamedTuple):
    """What came of one action in every environment; leaves have the environment as leading axis.

    frame:       [environment, *frame] the newest frame, also where an episode has just ended
    reward:      [environment] float32, in the game's own unit
    terminated:  [environment] the value ends here: the game is over, or a life was lost where lives
                 count; after a lost life the game continues
    truncated:   [environment] the game was cut here
    reset:       [environment] the step ignored its action and began a new game; it follows the end
                 of a game, and its frame is the new game's first
    """

    frame: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    reset: np.ndarray


@runtime_checkable
class Environments(Protocol):
    """Several environments of one kind that step together and start again by themselves.

    name:         what messages and stored scores call it
    count:        how many there are
    actions:      how many discrete actions there are, numbered from 0
    frame_shape:  of one frame
    dtype:        "uint8" or "float32"
    stack:        how many frames make an observation, put end to end on the first axis
    scale:        what a network multiplies its input by
    protocol:     everything that a score depends on, as plain values
    """

    name: str
    count: int
    actions: int
    frame_shape: tuple[int, ...]
    dtype: str
    stack: int
    scale: float
    protocol: dict[str, Any]

    def reset(self, seed: int) -> np.ndarray:
        """Begin a new game everywhere; return the frames [environment, …].

        Environment i depends on (seed, i) only.
        """
        ...

    def send(self, action: np.ndarray) -> None:
        """Begin a step with actions [environment]; it may run while the caller does other work."""
        ...

    def receive(self) -> GameStep:
        """Wait for the end of the step that was begun last."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Return all that the next steps depend on, as plain values; None where it is out of reach.

        Not between `send` and `receive`.
        """
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        ...

    def close(self) -> None:
        """Give back what the environments hold."""
        ...


def observation_shape(environments: Environments) -> tuple[int, ...]:
    """Return the shape of an observation: a stack of frames, end to end on the first axis."""
    first, *rest = environments.frame_shape
    return (environments.stack * first, *rest)
