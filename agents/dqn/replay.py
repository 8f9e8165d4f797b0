"""Replay of single frames: each frame is stored once, stacks are put together when they are drawn.

The frames lie on the learner's device and never come back. Actions, rewards and flags, some twenty
bytes a frame, stay on the host, where they are made and where the rows to draw are known. To draw a
batch is a little arithmetic on the host, one copy and one gather on the device. Neither this nor
the storing of a frame waits for the device.

One row holds, for every environment, the frame it showed at a time and what was done there. The row
after the last one of an episode begins a new episode, and the step between the two is no
transition: no batch ever holds it. That is the order of a vector environment which resets in the
step after an end (Gymnasium's NEXT_STEP).
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.dqn.batch import Batch, continued_by_next, n_step_returns, segment_name, segment_places
from agents.dqn.transfer import host_buffer, on_device
from neural_tdc.device_memory import check_memory

FRAME_DTYPES = {"uint8": torch.uint8, "float32": torch.float32}
# Action 4, reward 4, three flags, age, place in the list of starts 8.
HOST_BYTES = 20


def replay_bytes(
    capacity: int, frame_shape: tuple[int, ...], dtype: str = "uint8"
) -> tuple[int, int]:
    """Return what a replay of `capacity` frames takes, in bytes: on the device and on the host."""
    size = math.prod(frame_shape) * torch.empty((), dtype=FRAME_DTYPES[dtype]).element_size()
    return capacity * size, capacity * HOST_BYTES


def check_capacity(capacity: int, environments: int, stack: int, steps: int) -> None:
    """Raise ValueError where a replay is too small for its environments; see `Replay`."""
    if -(-capacity // environments) < stack + steps + 1:
        least = (stack + steps + 1) * environments
        raise ValueError(
            f"a replay of {capacity} frames is too small: {environments} environments, stacks "
            f"of {stack} and {steps}-step returns need at least {least}"
        )


class Replay:
    """The latest `capacity` frames of several environments.

    capacity:      frames in all, rounded up to the same number for each environment
    environments:  how many act at once
    frame_shape:   of one frame; a stack puts frames end to end on the first axis, so that frames
                   [1, 84, 84] in stacks of 4 are observations [4, 84, 84]
    stack:         frames an observation; those before an episode's first are zero
    steps:         n of n-step returns
    discount:      γ
    reward_limit:  rewards are cut to [−limit, limit] when drawn, and kept as they are; None for no
                   limit
    sequence_length: transitions of a segment; batches are made of segments where it is more than 1

    Raises ValueError in one line where it does not fit into memory, before any is taken, and for
    segments of several environments or steps.
    """

    def __init__(
        self,
        capacity: int,
        environments: int,
        frame_shape: tuple[int, ...],
        *,
        dtype: str = "uint8",
        stack: int = 1,
        steps: int = 1,
        discount: float = 0.99,
        reward_limit: float | None = None,
        device: torch.device | str = "cpu",
        sequence_length: int = 1,
    ) -> None:
        check_capacity(capacity, environments, stack, steps)
        if sequence_length > 1 and (environments > 1 or steps > 1):
            raise ValueError("segments are of one environment and of one-step transitions")
        self._length = sequence_length
        self.times = -(-capacity // environments)
        self.environments, self.stack, self.steps = environments, stack, steps
        self.rows = self.times * environments
        frames, rest = replay_bytes(self.rows, frame_shape, dtype)
        check_memory(f"a replay of {self.rows:,} frames", frames, device, rest)
        # The row behind the last is never written: the zeros before an episode's first frame.
        self._frames = torch.zeros(
            self.rows + 1, *frame_shape, dtype=FRAME_DTYPES[dtype], device=device
        )
        self._action = np.zeros(self.rows, dtype=np.int32)
        self._reward = np.zeros(self.rows, dtype=np.float32)
        self._terminated = np.zeros(self.rows, dtype=bool)
        self._cut = np.zeros(self.rows, dtype=bool)
        self._is_transition = np.zeros(self.rows, dtype=bool)
        self._age = np.zeros(self.rows, dtype=np.uint8)
        # The rows that may be drawn, in the order of time: a ring within an array.
        self._starts = np.zeros(self.rows, dtype=np.int64)
        self._oldest = 0
        self._count = 0
        self._time = -1
        self._reward_limit = math.inf if reward_limit is None else reward_limit
        self._powers = (discount ** np.arange(steps + 1)).astype(np.float32)
        self._back = np.arange(stack - 1, -1, -1)

    def __len__(self) -> int:
        """Return how many transitions can be drawn."""
        return self._count

    @property
    def fill(self) -> float:
        """Return the part of the rows that hold a frame, from 0 to 1."""
        return min(self._time + 1, self.times) / self.times

    def _slice(self, time: int) -> slice:
        begin = time % self.times * self.environments
        return slice(begin, begin + self.environments)

    # Writing

    def start(self, frame: np.ndarray) -> None:
        """Begin an episode in every environment, at the start or where the games were given up.

        frame: [environment, *frame]
        """
        self._check_frame(frame)
        if self._time >= 0:
            if self._time > 0:
                self._cut[self._slice(self._time - 1)] = True
            self._complete(np.zeros(self.environments, dtype=bool))
        self._open(frame, np.ones(self.environments, dtype=bool))

    def append(
        self,
        action: Int[np.ndarray, " environment"],
        reward: Float[np.ndarray, " environment"],
        terminated: Bool[np.ndarray, " environment"],
        truncated: Bool[np.ndarray, " environment"],
        reset: Bool[np.ndarray, " environment"],
        frame: np.ndarray,
    ) -> None:
        """Add what was done at the latest frames and the frames that came of it.

        terminated:  the value ends here: the game is over, or a life is lost
        truncated:   the episode was cut here
        reset:       the step did nothing but begin a new episode; the rest of it is ignored
        frame:       [environment, *frame]

        Raises ValueError where an environment begins a new episode without having ended the last.
        """
        self._check_frame(frame)
        if self._time < 0:
            raise ValueError("a replay needs first frames before it takes steps: call start")
        if self._time > 0 and reset.any():
            before = self._slice(self._time - 1)
            running = self._is_transition[before] & ~self._terminated[before] & ~self._cut[before]
            if (reset & running).any():
                index = int((reset & running).argmax())
                raise ValueError(f"environment {index} was reset in the middle of an episode")
        now = self._slice(self._time)
        self._action[now] = action
        self._reward[now] = reward
        self._terminated[now] = terminated & ~reset
        self._cut[now] = truncated & ~reset
        self._complete(~reset)
        self._open(frame, reset)

    def _check_frame(self, frame: np.ndarray) -> None:
        expected = (self.environments, *self._frames.shape[1:])
        if frame.shape != expected:
            raise ValueError(f"frames of shape {list(frame.shape)}, not {list(expected)}")

    def _complete(self, is_transition: np.ndarray) -> None:
        """Close the latest row; the row n − 1 steps before it can now be drawn."""
        self._is_transition[self._slice(self._time)] = is_transition
        time = self._time - self.steps + 1
        if time < 0:
            return
        rows = self._slice(time)
        found = rows.start + np.flatnonzero(self._is_transition[rows])
        places = (self._oldest + self._count + np.arange(len(found))) % self.rows
        self._starts[places] = found
        self._count += len(found)

    def _open(self, frame: np.ndarray, first: np.ndarray) -> None:
        """Write frames into the next row, in the place of the oldest once the replay is full."""
        before = self._age[self._slice(self._time)]
        age = np.where(first, 0, np.minimum(before.astype(np.int64) + 1, self.stack - 1))
        self._time += 1
        # The rows that lose a frame of their stacks go with the row that is written over.
        lost = self._time - self.times + self.stack - 1
        if self._time == self.times:
            for time in range(lost):
                self._forget(time)
        if self._time >= self.times:
            self._forget(lost)
        now = self._slice(self._time)
        self._age[now] = age
        self._is_transition[now] = False
        shown, rows = torch.from_numpy(np.ascontiguousarray(frame)), self._frames[now]
        if rows.device.type != "cpu":
            shown = host_buffer(rows.shape, rows.dtype, rows.device).copy_(shown)
        rows.copy_(shown, non_blocking=True)

    def _forget(self, time: int) -> None:
        gone = int(self._is_transition[self._slice(time)].sum())
        self._oldest = (self._oldest + gone) % self.rows
        self._count -= gone

    # Reading

    def latest(self) -> Tensor:
        """Return the present observation of every environment: [environment, *observation]."""
        now = self._slice(self._time)
        index = self._stacks(np.arange(now.start, now.stop))
        return self._observations(*on_device([index], self._frames.device))

    def transitions(self) -> Int[np.ndarray, " transition"]:
        """Return the rows that can be drawn, oldest first, as `at` takes them."""
        return self._starts[(self._oldest + np.arange(self._count)) % self.rows]

    def sample(self, batch: int, generator: torch.Generator) -> Batch:
        """Draw transitions uniformly, with replacement; see `agents.dqn.batch`.

        Segments are drawn uniformly, batch // length of them, and lie one after another.
        Raises ValueError where there is none yet.
        """
        length = self._length
        places = self._count - length + 1
        if places <= 0:
            raise ValueError(f"the replay holds no {segment_name(length)} yet")
        drawn = torch.randint(places, (batch // length,), generator=generator).numpy()
        row = self._starts[(self._oldest + segment_places(drawn, length)) % self.rows]
        if length == 1:
            return self.at(row)
        return self.at(row, continued_by_next(self._terminated[row] | self._cut[row], length))

    def at(
        self,
        row: Int[np.ndarray, " batch"],
        follows: Bool[np.ndarray, " batch"] | None = None,
    ) -> Batch:
        """Return the transitions that begin at given rows; follows: see `agents.dqn.batch`."""
        reward, discount, then = self._over_steps(row)
        index = np.stack([self._stacks(row), self._stacks(then)])
        arrays = [index, self._action[row].astype(np.int64), reward, discount]
        # Of segments, in the same copy.
        arrays += [] if follows is None else [follows]
        rows, action, total, factor, *rest = on_device(arrays, self._frames.device)
        observation, following = self._observations(rows)
        return Batch(observation, action, total, factor, following, self._number(then), *rest)

    def _number(self, row: np.ndarray) -> np.ndarray:
        """Return which of all frames that were ever stored lie in given rows now."""
        place, environment = np.divmod(row, self.environments)
        time = self._time - (self._time - place) % self.times
        return time * self.environments + environment

    def _over_steps(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return n-step return, discount and the row that follows it, for each first row."""
        rows = (row[:, None] + self.environments * np.arange(self.steps)) % self.rows
        reward = np.clip(self._reward[rows], -self._reward_limit, self._reward_limit)
        total, discount, last = n_step_returns(
            rows, reward, self._terminated, self._cut, self._powers
        )
        return total, discount, (last + self.environments) % self.rows

    def _stacks(self, row: np.ndarray) -> np.ndarray:
        """Return the rows of the frames of each row's stack: [batch, stack], oldest first."""
        index = (row[:, None] - self.environments * self._back) % self.rows
        return np.where(self._back > self._age[row][:, None], self.rows, index)

    def _observations(self, index: Int[Tensor, "..."]) -> Tensor:
        """Gather stacks of frames: indices [..., stack] to observations [..., *observation]."""
        frame = self._frames.shape[1:]
        gathered = self._frames.index_select(0, index.reshape(-1))
        return gathered.view(*index.shape[:-1], self.stack * frame[0], *frame[1:])

    # Saving

    def state(self) -> dict[str, Any]:
        """Return everything it holds as tensors and numbers; the rows that hold a frame only."""
        used = min(self._time + 1, self.times) * self.environments
        arrays = {name: torch.from_numpy(array[:used]) for name, array in self._arrays().items()}
        return {
            "frames": self._frames[:used],
            "arrays": arrays,
            "starts": torch.from_numpy(self.transitions()),
            "time": self._time,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError where it is that of another replay."""
        frames = state["frames"]
        if len(frames) > self.rows or frames.shape[1:] != self._frames.shape[1:]:
            raise ValueError(
                f"a stored replay of frames {list(frames.shape)} does not fit into one of "
                f"{list(self._frames.shape)}"
            )
        self._frames[: len(frames)].copy_(frames)
        for name, array in self._arrays().items():
            array[: len(frames)] = state["arrays"][name].cpu().numpy()
        starts = state["starts"].cpu().numpy()
        self._starts[: len(starts)] = starts
        self._oldest, self._count, self._time = 0, len(starts), state["time"]

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "action": self._action,
            "reward": self._reward,
            "terminated": self._terminated,
            "cut": self._cut,
            "is_transition": self._is_transition,
            "age": self._age,
        }
