"""The run of `--rule auto`: the best value function, chosen without a truth.

Many candidates learn from the same transitions, see `neural_tdc.best_value`. Where a truth is
known it is used to measure the choice, never to make it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.resampled_task import Evidence, evidence
from experiments.evaluate_policy.learning.choice import (
    choice_lines,
    choice_summary,
    value_error,
)
from experiments.evaluate_policy.learning.folder_run import FolderRun
from experiments.evaluate_policy.learning.saved_value import saved_choice
from experiments.evaluate_policy.learning.shared import Shared
from experiments.evaluate_policy.settings.evaluation_settings import AUTO, FOR_AUTO
from experiments.runs.command_line.checks import named
from experiments.runs.folder.checkpoint import write_tensors
from experiments.runs.folder.folder_contents import VALUE
from neural_tdc.best_value import BestValue, best_value
from neural_tdc.types import Transition

# The log itself and draws of it, which are cheap: only heads are solved anew.
RESAMPLES = 101


class SearchRun(FolderRun):
    """The search in its folder: new, or finished before.

    stream:  what it learns from, see `first_stream`
    workers: threads that it may compute on, where it learns on the CPU
    """

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        stream: Transition,
        workers: int,
    ) -> None:
        super().__init__(AUTO, folder, shared, {"choice"})
        # A device does the work of one thread after that of another.
        self.stream, self.workers = stream, workers if stream.reward.device.type == "cpu" else 1
        self.steps = len(stream.reward)
        self.choice: dict[str, Any] | None = None
        if (saved := self.recorder.saved) is not None:
            self.choice = saved["choice"]
            self.recorder.resume([self.recorder.start])

    def learn(self) -> None:
        """Search, measure and save; a search is finished, or it starts from the beginning."""
        recorder = self.recorder
        if recorder.start >= self.steps:
            return
        with recorder.writing():
            best = self._found()
            recorder.clock.switch("measure")
            error = value_error(best.value, self.task)
            values = {} if error is None else {"error/rmsve": np.array([error])}
            self.choice = choice_summary(best, self.task, self.stream)
            scalars = {"value/starts": self.choice["value"]["mean"]}
            for family in best.ranking:
                scalars[f"held_out_error/{family.family}"] = family.score
            recorder.record(
                self.steps,
                {AUTO: values},
                {AUTO: np.zeros(1, dtype=bool)},
                partial(self._contents, best),
                scalars,
            )
            settings = self.shared.settings
            kept = {name: value for name, value in settings.items() if name in FOR_AUTO}
            recorder.write_hparams({AUTO: {**kept, "rule": AUTO}})

    def _found(self) -> BestValue:
        settings, threads = self.shared.settings, torch.get_num_threads()
        # Several threads of torch wait for one another, for long where others use the cores.
        torch.set_num_threads(1)
        try:
            with named(self.shared.flags):
                return best_value(
                    self.stream,
                    seed=settings["seed"],
                    updates=settings["updates"],
                    budget=settings["budget"],
                    resamples=1 if settings["resample"] == "none" else RESAMPLES,
                    on_progress=self.shared.on_progress,
                    workers=self.workers,
                )
        finally:
            torch.set_num_threads(threads)

    def _contents(self, best: BestValue) -> dict[str, Any]:
        """Return what the checkpoint holds, after the value function is written."""
        write_tensors(self.folder / VALUE, saved_choice(best, self.task))
        return {"choice": self.choice}

    @property
    def evidence(self) -> Evidence:
        """Return how much data is learned from."""
        return evidence(self.stream)

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished search."""
        # Updates of candidates are not those of a rule.
        more = {"run_steps_per_second": None, **(self.choice or {})}
        return self.write_summary(self.steps, **more)

    def lines(self, summary: Mapping[str, Any]) -> list[str]:
        """Return what is printed of the choice, from the summary of the finished search."""
        return choice_lines(summary, truth=self.task.truth is not None)
