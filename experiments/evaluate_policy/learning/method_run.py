"""One method's run: what it learns from ever longer prefixes of the data, measured and saved."""

from functools import partial
from pathlib import Path
from typing import Any

from agents.starts import start_states, with_start_values
from experiments.evaluate_policy.learning.folder_run import FolderRun
from experiments.evaluate_policy.learning.saved_value import method_value
from experiments.evaluate_policy.learning.shared import Shared
from experiments.evaluate_policy.learning.start_value import value_of_runs
from experiments.evaluate_policy.learning.streams import run_streams
from experiments.runs.command_line.checks import named
from experiments.runs.folder.checkpoint import write_tensors
from experiments.runs.folder.folder_contents import VALUE
from neural_tdc.baselines.prefixes import prefix_measurements
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap, Measurement


class MethodRun(FolderRun):
    """One method's run, from the beginning or after the prefixes that are done."""

    def __init__(self, name: str, folder: Path, shared: Shared) -> None:
        super().__init__(name, folder, shared, {"diverged"})
        self.method = shared.plan.methods[name]
        if self.recorder.saved is not None:
            self.recorder.resume([self.recorder.start])

    def _evaluator(self, features: FeatureMap) -> Evaluator:
        """Return the evaluator of the task, with the value of the starts."""
        starts = start_states(self.task)
        evaluator = self.task.evaluator(features, Rule())
        return with_start_values(evaluator, features, starts, self.shared.cores)

    def learn(self) -> None:
        """Learn from every prefix that is not done, measuring, logging and saving."""
        (settings, plan, task, flags, on_progress, *_), recorder = self.shared, self.recorder
        if recorder.start >= plan.steps:
            return
        label = f"{self.name} on {task.name}"
        with recorder.writing(), named(flags):
            for measurement in prefix_measurements(
                self.method,
                run_streams(task, plan.device),
                self._evaluator,
                steps=plan.steps,
                prefixes=settings["prefixes"],
                seed=settings["seed"],
                start=recorder.start,
                on_progress=partial(on_progress, label),
                on_phase=recorder.clock.switch,
            ):
                recorder.record(
                    measurement.step,
                    {self.name: {key: each.numpy() for key, each in measurement.values.items()}},
                    {self.name: measurement.diverged.numpy()},
                    partial(self._contents, measurement),
                )
            recorder.write_hparams({self.name: {**self._own_settings(), "rule": self.name}})

    def _own_settings(self) -> dict[str, Any]:
        return {name: getattr(self.method, name) for name in sorted(self.method.settings)}

    def _contents(self, last: Measurement) -> dict[str, Any]:
        """Return what the checkpoint holds, after the value function is written."""
        write_tensors(self.folder / VALUE, method_value(last, self.task))
        return {"diverged": last.diverged}

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run, with its passes over the data."""
        return self.write_summary(
            self.shared.plan.steps,
            **value_of_runs(self.history, self.task),
            passes=self.method.passes,
            settings=self._own_settings(),
        )
