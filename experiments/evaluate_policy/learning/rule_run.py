"""One rule's run of policy evaluation: what is learned, measured and saved."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from agents.policy_evaluation import Task, experience_on
from agents.resampled_task import Evidence
from agents.starts import start_states, with_start_values
from experiments.evaluate_policy.learning.saved_value import rule_value
from experiments.evaluate_policy.learning.shared import Beginning, Shared
from experiments.evaluate_policy.learning.start_value import run_evidence, value_of_runs
from experiments.evaluate_policy.parts.algorithms import run_step_sizes, task_runs
from experiments.runs.folder.checkpoint import restored, write_tensors
from experiments.runs.folder.run_folder import CHECKPOINT, VALUE
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History
from experiments.runs.results.report import Progress
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.schedules import Schedule, measured_steps, schedule
from neural_tdc.metrics.registry import shown_metrics
from neural_tdc.types import Evaluator, Measurement

# What a checkpoint holds.
_KEPT = {"diverged", "limit", "leaves"}


class EvaluationRun:
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
        self.name, self.folder, self.shared, self.beginning = name, folder, shared, beginning
        self.algorithm, self.state = algorithm, state
        plan = shared.plan
        self.recorder = Recorder(
            folder / CHECKPOINT, {name: folder}, _KEPT, device=plan.device, clock=shared.clock
        )
        self.limit = divergence_limit(state.parameters)
        self.diverged: torch.Tensor | None = None
        if (saved := self.recorder.saved) is not None:
            self.state = restored(state, saved["leaves"], self.recorder.path)
            self.diverged, self.limit = saved["diverged"], saved["limit"]
            self.recorder.resume(self._measured(max(plan.steps, self.recorder.start)))
        self.base = run_step_sizes(algorithm, plan, self.task, self.limit)

    @property
    def task(self) -> Task:
        """Return the task that it learns."""
        return self.shared.task

    @property
    def history(self) -> History:
        """Return the measurements so far."""
        return self.recorder.histories[self.name]

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
            recorder.write_hparams({self.name: self._hparams()})

    def _evaluator(self) -> Evaluator:
        """Return the task's evaluator, with the value of the starts."""
        features, rule = self.algorithm.features, self.algorithm.rule
        starts = start_states(self.task)
        return with_start_values(self.task.evaluator(features, rule), features, starts)

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

    def _hparams(self) -> dict[str, Any]:
        left_out = ("out", "resume", "overwrite", "rule")
        kept = {name: value for name, value in self.shared.settings.items() if name not in left_out}
        return {**kept, "rule": self.name}

    @property
    def evidence(self) -> Evidence:
        """Return how much data the first run learns from."""
        return run_evidence(self.task)

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        steps, seed = self.shared.plan.steps, self.shared.settings["seed"]
        more = value_of_runs(self.history, self.task)
        return self.recorder.summaries(self.task.name, steps, seed, **more)[self.name]
