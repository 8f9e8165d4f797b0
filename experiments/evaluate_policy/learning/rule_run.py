"""One rule's run of policy evaluation: what is learned, measured and saved."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from agents.starts import start_states, with_start_values
from agents.task import experience_on
from experiments.evaluate_policy.learning.folder_run import FolderRun
from experiments.evaluate_policy.learning.saved_value import rule_value
from experiments.evaluate_policy.learning.shared import Beginning, Shared
from experiments.evaluate_policy.learning.start_value import value_of_runs
from experiments.evaluate_policy.parts.algorithms import run_step_sizes, task_runs
from experiments.runs.folder.checkpoint import restored, write_tensors
from experiments.runs.folder.folder_contents import VALUE
from experiments.runs.results.progress import Progress
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.schedules import Schedule, measured_steps, schedule
from neural_tdc.metrics.registry import shown_metrics
from neural_tdc.types import Evaluator, Measurement

# What a checkpoint holds.
_KEPT = {"diverged", "limit", "leaves"}


class EvaluationRun(FolderRun):
    """One rule's run, from the beginning or from its checkpoint."""

    def __init__(
        self,
        name: str,
        folder: Path,
        shared: Shared,
        beginning: Beginning,
        algorithm: Algorithm,
        state: State,
    ) -> None:
        plan = shared.plan
        super().__init__(name, folder, shared, _KEPT, plan.device)
        self.beginning, self.algorithm, self.state = beginning, algorithm, state
        self.limit = divergence_limit(state.parameters)
        self.diverged: torch.Tensor | None = None
        if (saved := self.recorder.saved) is not None:
            self.state = restored(state, saved["leaves"], self.recorder.path)
            self.diverged, self.limit = saved["diverged"], saved["limit"]
            self.recorder.resume(self._measured(max(plan.steps, self.recorder.start)))
        self.base = run_step_sizes(algorithm, plan, self.task, self.limit)

    def _measured(self, steps: int) -> list[int]:
        """Return the numbers of updates after which a run of so many is measured."""
        every = self.shared.settings["measure_every"]
        return measured_steps(steps, every, length=self.beginning.pool)

    def _contents(self, last: Measurement) -> dict[str, Any]:
        """Return what the checkpoint holds, after the value function is written."""
        write_tensors(self.folder / VALUE, rule_value(last, self.shared))
        leaves, _ = tree_flatten(last.state)
        return {"diverged": last.diverged, "limit": self.limit, "leaves": leaves}

    def learn(self) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved."""
        (settings, plan, task, *_), recorder = self.shared, self.recorder
        if recorder.start >= plan.steps:
            return
        factors = schedule(settings["schedule"], plan.steps)
        label, runs = f"{self.name} on {task.name}", task_runs(task)
        with recorder.writing(), Progress(label, plan.steps, runs, recorder.start) as progress:
            for measurement in learn(
                self.algorithm,
                self.state,
                experience_on(task.experience, plan.device),
                self.base,
                factors,
                plan.sampling,
                self._evaluator(),
                steps=plan.steps,
                measured=self._measured(plan.steps),
                limit=self.limit,
                start=recorder.start,
                diverged=self.diverged,
                compiled=self.beginning.compiled,
                on_phase=recorder.clock.switch,
                reward_scale=self.beginning.rewards_divided_by,
                threads=self.shared.cores,
            ):
                done, learning = measurement.step * runs, recorder.spent()["learn"]
                recorder.record(
                    measurement.step,
                    {self.name: self._values(measurement, factors)},
                    {self.name: measurement.diverged.numpy()},
                    partial(self._contents, measurement),
                    {"speed/run_steps_per_second": done / max(learning, 1e-9)},
                )
                progress.update(measurement.step, *self._present_error())
            recorder.write_hparams({self.name: {**settings, "rule": self.name}})

    def _evaluator(self) -> Evaluator:
        """Return the task's evaluator, with the value of the starts."""
        features, rule = self.algorithm.features, self.algorithm.rule
        starts = start_states(self.task)
        evaluator = self.task.evaluator(features, rule)
        return with_start_values(evaluator, features, starts, self.shared.cores)

    def _values(self, measurement: Measurement, factors: Schedule) -> dict[str, np.ndarray]:
        """Return the errors and the step sizes of a measurement, [run] each."""
        values = {name: value.numpy() for name, value in measurement.values.items()}
        at_step = factors(torch.tensor(measurement.step - 1))
        for name, base, factor in zip(self.base._fields, self.base, at_step):
            values[f"step_size/{name}"] = (base.double() * factor.to(base.device)).cpu().numpy()
        return values

    def _present_error(self) -> tuple[float | None, str]:
        first = shown_metrics(self.history.names)[0]
        present = self.history.values(first.key)[-1]
        mean = float(np.nanmean(present)) if np.isfinite(present).any() else None
        return mean, first.symbol

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        return self.write_summary(self.shared.plan.steps, **value_of_runs(self.history, self.task))
