"""A run of supervised learning: what is learned, measured and saved.

All arms are one population with one checkpoint, in --out; each arm has a folder with its
measurements and events.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from experiments.runs.folder.checkpoint import restored
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, CONFIG, SUMMARY
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.progress import Progress
from experiments.train_supervised.build import SupervisedPlan
from experiments.train_supervised.measurement import measured
from neural_tdc.learning.schedules import measured_steps
from neural_tdc.stackelberg.supervised_learner import learn_supervised
from neural_tdc.types import Measurement

# What a checkpoint holds.
_KEPT = {"diverged", "limit", "leaves", "extra"}

Watch = Callable[[Measurement, dict[str, Any]], None]


class SupervisedRun:
    """A population of arms and seeds, from the beginning or from its checkpoint."""

    def __init__(
        self,
        plan: SupervisedPlan,
        out: Path,
        folders: dict[str, Path],
        compiled: bool,
        clock: PhaseClock,
    ) -> None:
        self.plan, self.out, self.folders, self.compiled = plan, out, folders, compiled
        self.recorder = Recorder(out / CHECKPOINT, folders, _KEPT, device=plan.device, clock=clock)
        self.histories = self.recorder.histories
        self.start: int | None = None
        self.state, self.limit = plan.state, plan.limit
        self.diverged: torch.Tensor | None = None
        self.extra: dict[str, Any] = {}
        if (saved := self.recorder.saved) is not None:
            self.state = restored(plan.state, saved["leaves"], self.recorder.path)
            self.diverged, self.limit = saved["diverged"].cpu(), saved["limit"]
            self.extra, self.start = saved["extra"], saved["step"]
            end = max(plan.settings.steps or 0, saved["step"])
            self.recorder.resume(measured_steps(end, plan.settings.measure_every, first=0))

    def write_configuration(self) -> None:
        """Write what the run is, in OUT first: by it the folder is known as a run's."""
        stored = {**self.plan.stored, "compiled": self.compiled}
        config = configuration(stored, self.plan.device)
        if len(self.folders) > 1:
            write_json(self.out / CONFIG, {**config, "folders": list(self.folders)})
        for arm, folder in self.folders.items():
            write_json(folder / CONFIG, {**config, "rule": arm, "problem": config["task"]})

    def _contents(self, last: Measurement) -> dict[str, Any]:
        """Return what the checkpoint holds."""
        leaves, _ = tree_flatten(last.state)
        kept = {"diverged": last.diverged, "limit": self.limit, "extra": self.extra}
        return {**kept, "leaves": leaves}

    def learn(self, watch: Watch | None = None) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved.

        watch: looks at every measurement too, and may keep plain values and tensors in the
               dictionary it is given, which goes into the checkpoint
        """
        settings = self.plan.settings
        steps, start = settings.steps, self.start
        if start is not None and start >= steps:
            return
        recorder, runs = self.recorder, len(self.folders) * settings.runs
        with recorder.writing(), Progress(settings.task, steps, runs, start or 0) as progress:
            for measurement in learn_supervised(
                self.plan.learning,
                self.plan.samples,
                self.plan.key,
                self.state,
                steps=steps,
                measure_every=settings.measure_every,
                limit=self.limit,
                answered_on=self.plan.dataset.train,
                start=start,
                diverged=self.diverged,
                compiled=self.compiled,
                on_phase=recorder.clock.switch,
            ):
                recorder.clock.switch("measure")
                values = measured(self.plan, measurement)
                if watch is not None:
                    watch(measurement, self.extra)
                recorder.record(
                    measurement.step,
                    values,
                    dict(zip(values, measurement.diverged.numpy())),
                    partial(self._contents, measurement),
                )
                progress.update(measurement.step, self._test_loss(), "test loss")
            recorder.write_hparams({arm: {**self.plan.stored, "arm": arm} for arm in self.folders})

    def _test_loss(self) -> float:
        """Return the mean over the arms and seeds that have one; NaN without any."""
        losses = np.concatenate([each.last("test/loss") for each in self.histories.values()])
        known = losses[np.isfinite(losses)]
        return float(known.mean()) if known.size else np.nan

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Write and return the summaries of the finished run, {arm: summary}."""
        settings = self.plan.settings
        found = self.recorder.summaries(settings.task, settings.steps, settings.seed)
        if len(found) > 1:
            write_json(self.out / SUMMARY, found)
        return found
