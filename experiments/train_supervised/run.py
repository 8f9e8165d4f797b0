"""A run of supervised learning: learning, measuring, saving, and going on after a stop.

All arms are one population with one checkpoint, in --out; measurements and events are in a folder
an arm. The order at a checkpoint is that of `experiments.runs.run_folder`, over all arms.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.configuration import configuration
from experiments.runs.files import write_json
from experiments.runs.history import History, MetricsFile, cut, read
from experiments.runs.report import Progress
from experiments.runs.run_folder import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    SUMMARY,
)
from experiments.runs.statistics import summary
from experiments.runs.tensorboard_log import TensorBoardLog
from experiments.train_supervised.build import Plan
from experiments.train_supervised.measurement import finite_mean, measured
from neural_tdc.stackelberg.supervised_learner import learn_supervised
from neural_tdc.types import Measurement

# Seconds between two checkpoints of a running population.
CHECKPOINT_EVERY = 10.0
MAY_DIFFER = ("steps", "device")
# What a checkpoint holds.
KEPT = {"step", "seconds", "diverged", "limit", "leaves", "extra"}

Watch = Callable[[Measurement, dict[str, Any]], None]


class Run:
    """A population: what it writes while it learns, and where it goes on after a stop."""

    def __init__(self, plan: Plan, out: Path, folders: dict[str, Path], compiled: bool) -> None:
        self.plan, self.out, self.folders, self.compiled = plan, out, folders, compiled
        self.histories = {arm: History() for arm in folders}
        self.seconds = 0.0
        self.start: int | None = None
        self.state, self.limit = plan.state, plan.limit
        self.diverged: torch.Tensor | None = None
        self.extra: dict[str, Any] = {}
        if (out / CHECKPOINT).exists():
            self._load()

    def _load(self) -> None:
        path = self.out / CHECKPOINT
        saved = load_checkpoint(path, self.plan.device)
        leaves, structure = tree_flatten(self.state)
        if not saved.keys() >= KEPT or _shapes(saved["leaves"]) != _shapes(leaves):
            raise ValueError(f"{path} belongs to other arms or networks than this run's")
        self.state = tree_unflatten(saved["leaves"], structure)
        self.start, self.seconds = saved["step"], saved["seconds"]
        self.diverged, self.limit = saved["diverged"].cpu(), saved["limit"]
        self.extra = saved["extra"]
        for arm, folder in self.folders.items():
            cut(folder / METRICS, saved["step"])
            history = read(folder / METRICS)
            if not len(history) or history.steps[-1] != self.start:
                raise ValueError(
                    f"{folder / METRICS} ends before step {self.start}, where {path} goes on: it "
                    "has lost measurements; start again with --overwrite"
                )
            self.histories[arm] = history

    def write_configuration(self) -> None:
        """Write what the run is, in OUT first: by it the folder is known as a run's."""
        stored = {**self.plan.stored, "compiled": self.compiled}
        config = configuration(stored, self.plan.device)
        if len(self.folders) > 1:
            write_json(self.out / CONFIG, {**config, "folders": list(self.folders)})
        for arm, folder in self.folders.items():
            write_json(folder / CONFIG, {**config, "rule": arm, "problem": config["task"]})

    def _save(self, last: Measurement) -> None:
        """Write the checkpoint, after what it relies on has reached the disk."""
        for arm in self.folders:
            self.metrics[arm].flush()
            self.logs[arm].flush()
        leaves, _ = tree_flatten(last.state)
        save_checkpoint(
            self.out / CHECKPOINT,
            {
                "step": last.step,
                "seconds": self.seconds,
                "diverged": last.diverged,
                "limit": self.limit,
                "leaves": leaves,
                "extra": self.extra,
            },
        )

    def learn(self, watch: Watch | None = None) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved.

        watch: looks at every measurement too, and may keep plain values and tensors in the
               dictionary it is given, which goes into the checkpoint
        """
        settings = self.plan.settings
        steps, start = settings.steps or 0, self.start
        if start is not None and start >= steps:
            return
        # Only what stands in all other files may be saved: a stop may come between any two lines.
        unsaved: Measurement | None = None
        begun, before = time.perf_counter(), self.seconds
        saved_at = begun
        runs = len(self.folders) * (settings.runs or 1)
        with ExitStack() as files:
            self.metrics = {
                arm: files.enter_context(
                    closing(MetricsFile(folder / METRICS, self.histories[arm]))
                )
                for arm, folder in self.folders.items()
            }
            purge = None if start is None else start + 1
            self.logs = {
                arm: files.enter_context(closing(TensorBoardLog(folder, purge)))
                for arm, folder in self.folders.items()
            }
            try:
                with Progress(settings.task, steps, runs, start or 0) as progress:
                    for measurement in learn_supervised(
                        self.plan.learning,
                        self.plan.dataset.train,
                        self.plan.key,
                        self.state,
                        steps=steps,
                        measure_every=settings.measure_every or 1,
                        limit=self.limit,
                        start=start,
                        diverged=self.diverged,
                        compiled=self.compiled,
                    ):
                        self._record(measurement)
                        if watch is not None:
                            watch(measurement, self.extra)
                        unsaved = measurement
                        now = time.perf_counter()
                        self.seconds = before + now - begun
                        progress.update(measurement.step, self._test_loss(), "test loss")
                        if now - saved_at > CHECKPOINT_EVERY:
                            self._save(measurement)
                            saved_at, unsaved = now, None
                    for arm, log in self.logs.items():
                        log.write_hparams(self._hparams(arm), self.histories[arm])
            finally:
                if unsaved is not None:
                    self._save(unsaved)

    def _record(self, measurement: Measurement) -> None:
        for index, (arm, values) in enumerate(measured(self.plan, measurement).items()):
            history = self.histories[arm]
            history.append(measurement.step, values, measurement.diverged[index].numpy())
            self.metrics[arm].write()
            self.logs[arm].write(history)

    def _test_loss(self) -> float | None:
        return finite_mean(
            np.concatenate([history.last("test/loss") for history in self.histories.values()])
        )

    def _hparams(self, arm: str) -> dict[str, Any]:
        return {**self.plan.stored, "arm": arm}

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Write and return the summaries of the finished run, {arm: summary}.

        `seconds` is that of all arms together: they learn as one population.
        """
        settings = self.plan.settings
        found = {
            arm: summary(
                self.histories[arm],
                problem=settings.task,
                rule=arm,
                steps=settings.steps or 0,
                seed=settings.seed,
                seconds=self.seconds,
            )
            for arm in self.folders
        }
        for arm, folder in self.folders.items():
            write_json(folder / SUMMARY, found[arm])
        if len(found) > 1:
            write_json(self.out / SUMMARY, found)
        return found


def _shapes(leaves: Sequence[torch.Tensor]) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in leaves]
