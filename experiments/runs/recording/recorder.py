"""What a run writes while it works: measurements, events, checkpoints; and how it is resumed.

    recorder = Recorder(folder / CHECKPOINT, {name: folder}, {"leaves"})
    if recorder.saved is not None:
        state = restored(state, recorder.saved["leaves"], recorder.path)
        recorder.resume(measured_steps(steps, every))
    with recorder.writing():
        for step, values, diverged, state in …:
            recorder.record(step, {name: values}, {name: diverged}, partial(checkpoint, state))

A run has one checkpoint and one or several parts (the arms of a population): each part has a
folder with a history in `metrics.csv` and an event file.

The order at a checkpoint is that of `experiments.runs.folder.folder_contents`. A stop may come
between any two lines: what is saved then is the last measurement that stands in all files.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.runs.folder.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import METRICS_FILE, SUMMARY
from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History, MetricsFile, cut, read
from experiments.runs.results.phases import PHASES, SHARED, PhaseClock
from experiments.runs.results.statistics import summary

# Seconds between two checkpoints of a running population.
CHECKPOINT_EVERY = 10.0
# What every checkpoint holds.
_COMMON = {"step", "seconds"}

Contents = Callable[[], dict[str, Any]]


class Recorder:
    """The measurements, events and checkpoints of a run.

    path:      of the checkpoint
    saved:     what the checkpoint holds when the run is resumed; None for a new run
    start:     updates done by then
    histories: {part: its measurements so far}
    clock:     of the program. The phase is "learn" within `writing`, where the learner does not say
               otherwise, and "write" within `record`.
    seconds:   {phase: seconds} by the last measurement, over every resumption. Of a program with
               several runs, those of a run are its own, but for the phases before all runs.

    in_place:  learning changes the state that is saved, so that it is known at a measurement only
    every:     seconds between two checkpoints

    Raises ValueError in one line for a checkpoint that is damaged or another program's; nothing is
    written before `writing`.
    """

    def __init__(
        self,
        path: Path,
        folders: Mapping[str, Path],
        contents: set[str],
        *,
        device: torch.device | str = "cpu",
        in_place: bool = False,
        every: float | None = None,
        clock: PhaseClock | None = None,
    ) -> None:
        self.path, self.folders = path, dict(folders)
        self.histories = {part: History() for part in folders}
        self.clock = PhaseClock() if clock is None else clock
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.start = 0
        self._in_place, self._every = in_place, every
        # The step of the last measurement that the checkpoint knows.
        self._kept: int | None = None
        self._unsaved: Contents | None = None
        self.saved: dict[str, Any] | None = None
        if path.exists():
            self.saved = load_checkpoint(path, device)
            if not self.saved.keys() >= _COMMON | contents:
                raise ValueError(f"{path} belongs to another program's run, or to an older version")
            self.start, self.seconds = self.saved["step"], self.saved["seconds"]
            if not isinstance(self.seconds, dict):
                raise ValueError(f"{path} belongs to another program's run, or to an older version")

    def resume(self, grid: Iterable[int]) -> None:
        """Read the measurements up to the checkpoint; ValueError in one line where the last misses.

        grid: the steps at which the whole run is measured; the last measurement of a shorter run
              may lie off it and is left out
        """
        measured = max(step for step in grid if step <= self.start)
        for part, folder in self.folders.items():
            if not (folder / METRICS_FILE).exists():
                raise ValueError(
                    f"{folder / METRICS_FILE} does not exist, and a run is not resumed without its "
                    "measurements; put it back, or use --overwrite to start again"
                )
            history = read(folder / METRICS_FILE, measured)
            if not len(history) or history.steps[-1] != measured:
                raise ValueError(
                    f"{folder / METRICS_FILE} ends before step {measured}, at which {self.path} "
                    "resumes: it has lost measurements; use --overwrite to start again"
                )
            self.histories[part] = history
        self._kept = measured

    @contextlib.contextmanager
    def writing(self, stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Open the files, cut back to the checkpoint; save what is left to save at the end.

        stopping: tells whether the program is to stop; then a measurement is saved at once

        What stops the work is raised again, with the last whole measurement saved, unless the state
        has changed since then (`in_place`).
        """
        self._stopping = stopping
        with contextlib.ExitStack() as files:
            purge = None if self._kept is None else self._kept + 1
            self._metrics: dict[str, MetricsFile] = {}
            self._logs: dict[str, TensorBoardLog] = {}
            for part, folder in self.folders.items():
                if self._kept is not None:
                    cut(folder / METRICS_FILE, self._kept)
                metrics = MetricsFile(folder / METRICS_FILE, self.histories[part])
                self._metrics[part] = files.enter_context(contextlib.closing(metrics))
                log = TensorBoardLog(folder, purge)
                self._logs[part] = files.enter_context(contextlib.closing(log))
            self._before, self._begun = self.seconds, self.clock.seconds()
            self._saved_at = time.perf_counter()
            with self.clock.phase("learn"):
                try:
                    yield
                except BaseException:
                    if not self._in_place:
                        self._save_rest()
                    raise
                self._save_rest()

    def record(
        self,
        step: int,
        values: Mapping[str, Mapping[str, np.ndarray]],
        diverged: Mapping[str, np.ndarray] | None,
        contents: Contents,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """Write a measurement of every part, and a checkpoint where it is time.

        values:   {part: {metric: [run]}}
        diverged: {part: [run]}; None where parts are single runs that end when they diverge
        contents: makes what the checkpoint holds besides step and seconds. It is called when the
                  measurement has reached the disk, and may write what else belongs to it.
        scalars:  {tag: number} for the events alone, such as the speed
        """
        with self.clock.phase("write"):
            for part, history in self.histories.items():
                lost = np.zeros(1, dtype=bool) if diverged is None else diverged[part]
                history.append(step, values[part], lost)
                self._metrics[part].write()
                self._logs[part].write(history, count_diverged=diverged is not None)
                for tag, value in (scalars or {}).items():
                    self._logs[part].scalar(tag, value, step)
        self.seconds = seconds = self.spent()
        self._unsaved = lambda: {"step": step, "seconds": seconds, **contents()}
        every = CHECKPOINT_EVERY if self._every is None else self._every
        if time.perf_counter() - self._saved_at > every or self._stopping():
            self._save_rest()

    def write_hparams(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write each part's settings and final values for TensorBoard's page of them."""
        for part, log in self._logs.items():
            log.write_hparams(settings[part], self.histories[part])

    def summaries(
        self, problem: str, steps: int, seed: int, **more: Any
    ) -> dict[str, dict[str, Any]]:
        """Write and return the summaries of a finished run, {part: summary}.

        `seconds` are those of all parts together: they learn as one population. more: further
        entries
        """
        found = {}
        for part, history in self.histories.items():
            found[part] = summary(
                history, problem=problem, rule=part, steps=steps, seed=seed, seconds=self.seconds
            )
            found[part] |= more
            write_json(self.folders[part] / SUMMARY, found[part])
        return found

    def spent(self) -> dict[str, float]:
        """Return {phase: seconds} of this run by now, over every resumption; within `writing`."""
        now, begun = self.clock.seconds(), self._begun
        # What came before all runs belongs to each of them.
        own = {phase: now[phase] - (0.0 if phase in SHARED else begun[phase]) for phase in PHASES}
        return {phase: self._before[phase] + own[phase] for phase in PHASES}

    def _save_rest(self) -> None:
        """Write the checkpoint of the last measurement, after what it relies on is on the disk."""
        if self._unsaved is None:
            return
        with self.clock.phase("write"):
            for part in self.folders:
                self._metrics[part].flush()
                self._logs[part].flush()
            save_checkpoint(self.path, self._unsaved())
            self._unsaved = None
        self._saved_at = time.perf_counter()
