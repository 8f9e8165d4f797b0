"""Replays of many runs, each of one environment, in common arrays.

Every run has its own time: its rows are those that `agents.dqn.replay.Replay` would have with one
environment and stacks of one frame, and the same draws give the same transitions. As there, the
frames lie on the learner's device and the rest on the host.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.dqn.batch import Batch, continued_by_next, n_step_returns, segment_name, segment_places
from agents.dqn.replay import FRAME_DTYPES, check_capacity, replay_bytes
from agents.dqn.transfer import on_device
from neural_tdc.device_memory import check_memory

_ARRAYS = ("action", "reward", "terminated", "cut", "is_transition", "starts")
_COUNTS = ("oldest", "count", "time")


class StackedReplay:
    """The latest `capacity` frames of every run; see `agents.dqn.replay.Replay`.

    Raises ValueError in one line where it does not fit into memory, before any is taken.
    """

    def __init__(
        self,
        runs: int,
        capacity: int,
        frame_shape: tuple[int, ...],
        *,
        dtype: str = "uint8",
        steps: int = 1,
        discount: float = 0.99,
        reward_limit: float | None = None,
        device: torch.device | str = "cpu",
        sequence_length: int = 1,
    ) -> None:
        check_capacity(capacity, 1, 1, steps)
        if sequence_length > 1 and steps > 1:
            raise ValueError("segments are of one-step transitions")
        self._length = sequence_length
        self.runs, self.times, self.steps = runs, capacity, steps
        rows = runs * capacity
        frames, rest = replay_bytes(rows, frame_shape, dtype)
        check_memory(f"holding {runs} replays of {capacity:,} frames", frames, device, rest)
        self._frames = torch.zeros(rows, *frame_shape, dtype=FRAME_DTYPES[dtype], device=device)
        self._action = np.zeros(rows, dtype=np.int32)
        self._reward = np.zeros(rows, dtype=np.float32)
        self._terminated, self._cut, self._is_transition = np.zeros((3, rows), dtype=bool)
        # The times, modulo the capacity, of what may be drawn: a ring for each run.
        self._starts = np.zeros((runs, capacity), dtype=np.int32)
        self._oldest, self._count = np.zeros((2, runs), dtype=np.int64)
        self._time = np.full(runs, -1, dtype=np.int64)
        self._first = np.arange(runs) * capacity
        self._reward_limit = math.inf if reward_limit is None else reward_limit
        self._powers = (discount ** np.arange(steps + 1)).astype(np.float32)
        self._drawn = torch.zeros(runs, 0, dtype=torch.int64)

    @property
    def device(self) -> torch.device:
        """Return the device that frames lie on."""
        return self._frames.device

    def start(self, frame: np.ndarray) -> None:
        """Begin the first episode of every run: frame [run, *frame]."""
        self._open(np.arange(self.runs), frame)

    def append(
        self,
        which: Int[np.ndarray, " some"],
        action: Int[np.ndarray, " some"],
        reward: Float[np.ndarray, " some"],
        terminated: Bool[np.ndarray, " some"],
        truncated: Bool[np.ndarray, " some"],
        frame: np.ndarray,
    ) -> None:
        """Add a step of some runs: what was done at the latest frame and the frame that came."""
        now = self._row(which, self._time[which])
        self._action[now], self._reward[now] = action, reward
        self._terminated[now], self._cut[now] = terminated, truncated
        self._is_transition[now] = True
        self._complete(which)
        self._open(which, frame)

    def restart(self, which: Int[np.ndarray, " some"], frame: np.ndarray) -> None:
        """Begin a new episode in the runs `which`; frame: [some, …], their first frames."""
        now = self._row(which, self._time[which])
        self._terminated[now] = self._cut[now] = self._is_transition[now] = False
        self._complete(which)
        self._open(which, frame)

    def _row(self, which: np.ndarray, time: np.ndarray) -> np.ndarray:
        return self._first[which] + time % self.times

    def _complete(self, which: np.ndarray) -> None:
        """Close the latest rows; the rows n − 1 steps before them can now be drawn."""
        time = self._time[which] - self.steps + 1
        found = (time >= 0) & self._is_transition[self._row(which, time)]
        which, time = which[found], time[found]
        place = (self._oldest[which] + self._count[which]) % self.times
        self._starts[which, place] = time % self.times
        self._count[which] += 1

    def _open(self, which: np.ndarray, frame: np.ndarray) -> None:
        """Write frames into the next rows, in the place of the oldest of a full replay."""
        self._time[which] += 1
        time = self._time[which]
        now = self._row(which, time)
        gone = (time >= self.times) & self._is_transition[now]
        self._oldest[which] = (self._oldest[which] + gone) % self.times
        self._count[which] -= gone
        self._is_transition[now] = False
        rows, shown = on_device([now, frame], self.device)
        self._frames[rows] = shown

    def latest(self) -> Tensor:
        """Return the present observation of every run: [run, 1, *observation]."""
        (now,) = on_device([self._row(np.arange(self.runs), self._time)], self.device)
        return self._frames.index_select(0, now)[:, None]

    def transitions(self, run: int) -> Int[np.ndarray, " transition"]:
        """Return the rows of one run that can be drawn, oldest first."""
        place = self._oldest[run] + np.arange(self._count[run])
        return self._starts[run, place % self.times]

    def sample(self, batch: int, generators: Sequence[torch.Generator]) -> Batch:
        """Draw transitions of every run by its own generator: leaves are [run, batch, …].

        Segments as those of `Replay.sample`. Raises ValueError where a run has none yet.
        """
        length = self._length
        places = self._count - length + 1
        if (places <= 0).any():
            raise ValueError(f"a replay holds no {segment_name(length)} yet")
        if self._drawn.shape[1] != batch // length:
            self._drawn = torch.zeros(self.runs, batch // length, dtype=torch.int64)
        for row, count, source in zip(self._drawn, places.tolist(), generators):
            torch.randint(count, (len(row),), generator=source, out=row)
        place = (self._oldest[:, None] + segment_places(self._drawn.numpy(), length)) % self.times
        time = np.take_along_axis(self._starts, place, 1)
        if length == 1:
            return self.at(time)
        row = self._first[:, None] + time
        return self.at(time, continued_by_next(self._terminated[row] | self._cut[row], length))

    def at(
        self,
        time: Int[np.ndarray, "run batch"],
        follows: Bool[np.ndarray, "run batch"] | None = None,
    ) -> Batch:
        """Return the transitions that begin at given times, modulo the capacity.

        follows: see `agents.dqn.batch`
        """
        first = self._first[:, None]
        rows = first[..., None] + (time[..., None] + np.arange(self.steps)) % self.times
        reward = np.clip(self._reward[rows], -self._reward_limit, self._reward_limit)
        total, discount, last = n_step_returns(
            rows, reward, self._terminated, self._cut, self._powers
        )
        then = first + (last - first + 1) % self.times
        row = rows[..., 0]
        arrays = [row, then, self._action[row].astype(np.int64), total, discount]
        arrays += [] if follows is None else [follows]
        begin, end, action, returns, factor, *rest = on_device(arrays, self.device)
        observation, following = self._observations(begin), self._observations(end)
        return Batch(observation, action, returns, factor, following, then, *rest)

    def _observations(self, row: Int[Tensor, "run batch"]) -> Tensor:
        flat = self._frames.index_select(0, row.reshape(-1))
        return flat.view(*row.shape, *self._frames.shape[1:])

    def state(self) -> dict[str, Any]:
        """Return everything it holds as tensors."""
        names = (*_ARRAYS, *_COUNTS)
        kept = {name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in names}
        return {"frames": self._frames, **kept}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError where it is of another population."""
        if state["frames"].shape != self._frames.shape:
            raise ValueError("the stored replays are of another population")
        self._frames.copy_(state["frames"])
        for name in (*_ARRAYS, *_COUNTS):
            getattr(self, f"_{name}")[...] = state[name].cpu().numpy()
