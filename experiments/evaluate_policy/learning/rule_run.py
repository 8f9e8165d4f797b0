"""One rule's run of policy evaluation: what is learned, measured and saved."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from agents.policy_evaluation import Task, experience_on
from agents.resampled_task import Evidence
from agents.starts import start_states, with_start_values
from experiments.evaluate_policy.learning.start_value import run_evidence, value_of_runs
from experiments.evaluate_policy.parts.actions import saved_actions
from experiments.evaluate_policy.parts.algorithms import run_step_sizes, task_runs
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.runs.folder.checkpoint import restored
from experiments.runs.folder.files import write_bytes
from experiments.runs.folder.run_folder import CHECKPOINT, VALUE
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.report import Progress
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.schedules import Schedule, measured_steps, schedule
from neural_tdc.metrics.registry import shown_metrics
from neural_tdc.tensor_file import save_tensors
from neural_tdc.types import Evaluator, Measurement
from neural_tdc.value_function import description

# What a checkpoint holds.
_KEPT = {"diverged", "limit", "leaves"}


class EvaluationRun:
    """One rule's run, from the beginning or from its checkpoint.

    pool: the updates that it was begun with, which a longer resumed run keeps measuring by
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        compiled: bool,
        pool: int,
        algorithm: Algorithm,
        state: State,
        plan: EvaluationPlan,
        task: Task,
        clock: PhaseClock,
        reward_scale: float,
    ) -> None:
        self.name, self.folder, self.settings = name, folder, settings
        self.algorithm, self.plan, self.task, self.compiled = algorithm, plan, task, compiled
        self.pool = pool
        self.recorder = Recorder(
            folder / CHECKPOINT, {name: folder}, _KEPT, device=plan.device, clock=clock
        )
        self.limit, self.reward_scale = divergence_limit(state.parameters), reward_scale
        self.diverged: torch.Tensor | None = None
        self.state = state
        if (saved := self.recorder.saved) is not None:
            self.state = restored(state, saved["leaves"], self.recorder.path)
            self.diverged, self.limit = saved["diverged"], saved["limit"]
            self.recorder.resume(self._measured(max(plan.steps, self.recorder.start)))
        self.base = run_step_sizes(algorithm, plan, task, self.limit)

    @property
    def history(self) -> History:
        """Return the measurements so far."""
        return self.recorder.histories[self.name]

    def _measured(self, steps: int) -> list[int]:
        """Return the numbers of updates after which a run of so many is measured."""
        return measured_steps(steps, self.settings["measure_every"], length=self.pool)

    def _contents(self, last: Measurement) -> dict[str, Any]:
        """Return what the checkpoint holds, after the value function is written."""
        self._save_value(last)
        leaves, _ = tree_flatten(last.state)
        return {"diverged": last.diverged, "limit": self.limit, "leaves": leaves}

    def _save_value(self, last: Measurement) -> None:
        """Write the value function, for `neural_tdc.load_value`."""
        task, settings, make_body = self.task, self.settings, self.plan.make_body
        make = None
        if make_body is not None:
            # A body of the user's own is called with the observation's shape alone.
            keywords = getattr(make_body, "keywords", {})
            make = {"name": settings["body"], "settings": keywords, "seed": settings["seed"]}
        parameters, actions = last.parameters, task.actions
        shape = task.example.shape[1:] if actions is None else actions.rows.observation_shape
        saved = description(
            parameters.body,
            parameters.head,
            last.diverged,
            make=make,
            observation_shape=tuple(shape),
            shift=task.shift,
            scale=task.scale,
            table=task.table,
            actions=saved_actions(settings, task),
        )
        # In memory first: a full disk is then an OSError, which torch's own writer does not raise.
        content = io.BytesIO()
        save_tensors(saved, content)
        write_bytes(self.folder / VALUE, content.getvalue())

    def learn(self) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved."""
        plan, task, recorder = self.plan, self.task, self.recorder
        if recorder.start >= plan.steps:
            return
        factors = schedule(self.settings["schedule"], plan.steps)
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
                compiled=self.compiled,
                on_phase=recorder.clock.switch,
                reward_scale=self.reward_scale,
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
        kept = {name: value for name, value in self.settings.items() if name not in left_out}
        return {**kept, "rule": self.name}

    @property
    def evidence(self) -> Evidence:
        """Return how much data the first run learns from."""
        return run_evidence(self.task)

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        steps, seed = self.plan.steps, self.settings["seed"]
        more = value_of_runs(self.history, self.task)
        return self.recorder.summaries(self.task.name, steps, seed, **more)[self.name]
