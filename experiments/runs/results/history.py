"""Measurements over time of a population of runs, and the file `metrics.csv` that keeps them.

A metric is named `group/metric`, for example `error/rmsve`, `tracking_error/head`,
`step_size/body`. The file has one row a measurement and run: `step,run,diverged`, then the metrics
in the order in which they were first given. Numbers are written so that reading gives the same
float64 back; an empty cell is a number that does not exist.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.runs.folder.files import write_text

LEADING_COLUMNS = ("step", "run", "diverged")
_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)+")


class History:
    """Measurements of `runs` runs at increasing steps.

    names:     the metrics, fixed by the first measurement
    steps:     [time] int64, the number of updates done at each measurement
    diverged:  [run] True from the measurement on at which a run was found diverged
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._steps: list[int] = []
        self._values: list[Float[np.ndarray, "name run"]] = []
        self._diverged: list[Bool[np.ndarray, " run"]] = []

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def runs(self) -> int:
        """Return how many runs the population has; 0 before the first measurement."""
        return self._diverged[-1].size if self._diverged else 0

    @property
    def steps(self) -> Int[np.ndarray, " time"]:
        """Return the numbers of updates done at the measurements."""
        return np.array(self._steps, dtype=np.int64)

    @property
    def diverged(self) -> Bool[np.ndarray, " run"]:
        """Return which runs had diverged by the last measurement."""
        return self._diverged[-1].copy() if self._diverged else np.zeros(0, dtype=bool)

    @property
    def diverged_steps(self) -> Float[np.ndarray, " run"]:
        """Return the step at which each run was found diverged; NaN for a survivor."""
        flags = np.array(self._diverged).reshape(len(self), self.runs)
        first = self.steps[flags.argmax(axis=0)] if len(self) else np.zeros(0)
        return np.where(self.diverged, first, math.nan)

    def append(
        self,
        step: int,
        values: Mapping[str, Float[np.ndarray, " run"]],
        diverged: Bool[np.ndarray, " run"],
    ) -> None:
        """Add one measurement; a diverged run's values are dropped, now and in every later one.

        Raises ValueError where steps do not increase, metrics come and go, or sizes differ.
        """
        now = np.array(diverged, dtype=bool)
        if self._steps and step <= self._steps[-1]:
            raise ValueError(f"measurement at step {step} after one at step {self._steps[-1]}")
        if now.ndim != 1 or (self._diverged and now.size != self.runs):
            raise ValueError(f"divergence flags of shape {now.shape}, not one per run")
        if self._diverged:
            now = now | self._diverged[-1]
        names = self.names or tuple(values)
        if set(names) != set(values):
            raise ValueError(f"metrics {sorted(values)} after {sorted(names)}")
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"metric {name!r} is not of the form group/metric")
            if np.shape(values[name]) != now.shape:
                raise ValueError(
                    f"metric {name} of shape {np.shape(values[name])}, not one value per run"
                )
        rows = np.array([values[name] for name in names], dtype=np.float64).reshape(-1, now.size)
        rows[:, now] = math.nan
        self.names = names
        self._steps.append(int(step))
        self._values.append(rows)
        self._diverged.append(now)

    def values(self, name: str) -> Float[np.ndarray, "time run"]:
        """Return a metric; NaN for a run from the measurement on at which it was found diverged."""
        if name not in self.names:
            raise ValueError(f"no metric {name}; measured were {', '.join(self.names) or 'none'}")
        index = self.names.index(name)
        return np.array([rows[index] for rows in self._values]).reshape(len(self), self.runs)

    def last(self, name: str) -> Float[np.ndarray, " run"]:
        """Return a metric at the last measurement."""
        if name not in self.names or not self._steps:
            raise ValueError(f"no metric {name}; measured were {', '.join(self.names) or 'none'}")
        return self._values[-1][self.names.index(name)].copy()

    def lines(self, measurement: int) -> str:
        """Return one measurement as rows of `metrics.csv`, each with its line end."""
        step, diverged = self._steps[measurement], self._diverged[measurement].tolist()
        columns = self._values[measurement].T.tolist()
        return "".join(
            f"{step},{run},{int(diverged[run])}{''.join(map(_cell, columns[run]))}\n"
            for run in range(len(diverged))
        )


def _cell(value: float) -> str:
    return "," if math.isnan(value) else f",{value!r}"


def _header(names: tuple[str, ...]) -> str:
    return ",".join((*LEADING_COLUMNS, *names)) + "\n"


class MetricsFile:
    """`metrics.csv`, open to take what is appended to a history.

    The measurements that the history holds at the start stand in the file already: none for a new
    run, those that `read` gave for a resumed one. Raises ValueError where the file is another's.
    """

    def __init__(self, path: Path, history: History) -> None:
        self._history = history
        self._written = len(history)
        self._needs_header = not path.exists() or path.stat().st_size == 0
        if not self._needs_header:
            with path.open(encoding="utf-8") as file:
                if not len(history) or file.readline() != _header(history.names):
                    raise ValueError(f"{path} holds other measurements than this run's")
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self) -> None:
        """Write the measurements appended since the last call."""
        if self._needs_header and len(self._history):
            self._file.write(_header(self._history.names))
            self._needs_header = False
        while self._written < len(self._history):
            self._file.write(self._history.lines(self._written))
            self._written += 1

    def flush(self) -> None:
        """Return when all that was written has reached the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()


def _complete_lines(path: Path) -> list[str]:
    """Return the lines of a file, without a last one that has no line end."""
    try:
        # Some editors begin a file with a byte order mark.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a table of measurements") from None
    lines = text.split("\n")[:-1]
    if lines and tuple(lines[0].split(",")[:3]) != LEADING_COLUMNS:
        raise ValueError(f"{path} is not a table of measurements: it starts with {lines[0][:60]!r}")
    return lines


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


def read(path: Path, until: float = math.inf) -> History:
    """Read `metrics.csv` up to a step; a measurement cut off at the file's end is left out.

    Raises ValueError, naming the line, where the file is damaged elsewhere.
    """
    lines = _complete_lines(path)
    history = History()
    if not lines:
        return history
    names = tuple(lines[0].split(",")[3:])
    blocks: list[tuple[int, list[list[float]], list[bool]]] = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(",")
        try:
            step, run, diverged = int(cells[0]), int(cells[1]), bool(int(cells[2]))
            row = [_number(cell) for cell in cells[3:]]
        except (ValueError, IndexError):
            raise ValueError(f"{path}, line {number} is damaged: {line[:60]!r}") from None
        if not blocks or step != blocks[-1][0]:
            blocks.append((step, [], []))
        if len(row) != len(names) or run != len(blocks[-1][1]):
            raise ValueError(f"{path}, line {number} is damaged: {line[:60]!r}")
        blocks[-1][1].append(row)
        blocks[-1][2].append(diverged)
    if len(blocks) > 1 and len(blocks[-1][1]) < len(blocks[0][1]):
        blocks.pop()
    history.names = names
    for step, rows, flags in blocks:
        if step > until:
            break
        columns = np.array(rows).reshape(len(rows), len(names)).T
        try:
            history.append(step, dict(zip(names, columns)), np.array(flags))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    return history


def cut(path: Path, step: int) -> None:
    """Remove every row after a step, and a torn last line; all is kept or all is done."""
    lines = _complete_lines(path)
    kept = lines[:1]
    for number, line in enumerate(lines[1:], start=2):
        first = line.split(",", 1)[0]
        if not first.isdecimal():
            raise ValueError(f"{path}, line {number} is damaged: {line[:60]!r}")
        if int(first) <= step:
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))
