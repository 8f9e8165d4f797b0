"""One rule's run of policy evaluation: learning, measuring, saving, and going on after a stop."""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from agents.policy_evaluation import Task
from experiments.evaluate_policy.build import Plan
from experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.files import write_bytes, write_json
from experiments.runs.history import History, MetricsFile, cut, read
from experiments.runs.report import Progress
from experiments.runs.run_folder import CHECKPOINT, METRICS, SUMMARY, VALUE
from experiments.runs.statistics import summary
from experiments.runs.tensorboard_log import TensorBoardLog
from neural_tdc.learning.algorithm import Algorithm, State, StepSizes
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.registry import shown_metrics
from neural_tdc.types import Measurement
from neural_tdc.value_function import description

# Seconds between two checkpoints of a running population.
CHECKPOINT_EVERY = 10.0
# What a checkpoint holds.
KEPT = {"step", "seconds", "diverged", "limit", "leaves"}


class Run:
    """One rule's run: what it writes while it learns, and where it goes on after a stop."""

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        compiled: bool,
        algorithm: Algorithm,
        state: State,
        plan: Plan,
        task: Task,
    ) -> None:
        self.name, self.folder, self.settings = name, folder, settings
        self.algorithm, self.plan, self.task, self.compiled = algorithm, plan, task, compiled
        self.history = History()
        self.seconds = 0.0
        self.start = self.measured = 0
        self.limit = divergence_limit(state.parameters)
        self.diverged: torch.Tensor | None = None
        self.state = state
        if (folder / CHECKPOINT).exists():
            self._load()
        self.base = _base_steps(algorithm, plan, task, self.limit)

    def _load(self) -> None:
        path = self.folder / CHECKPOINT
        saved = load_checkpoint(path, self.plan.device)
        leaves, structure = tree_flatten(self.state)
        if not saved.keys() >= KEPT or _shapes(saved["leaves"]) != _shapes(leaves):
            raise ValueError(f"{path} belongs to another rule or network than this run's")
        self.state = tree_unflatten(saved["leaves"], structure)
        self.start, self.seconds = saved["step"], saved["seconds"]
        self.diverged, self.limit = saved["diverged"], saved["limit"]
        # A shorter run's last measurement may stand off the grid of a longer one: it is left out.
        every, steps = self.settings["measure_every"], max(self.start, self.plan.steps)
        self.measured = max(s for s in measured_steps(steps, every) if s <= self.start)
        self.history = read(self.folder / METRICS, self.measured)
        if not len(self.history) or self.history.steps[-1] != self.measured:
            raise ValueError(
                f"{self.folder / METRICS} ends before step {self.measured}, where {path} goes on: "
                "it has lost measurements; start again with --overwrite"
            )

    def _save(self, last: Measurement) -> None:
        """Write a checkpoint, after what it relies on has reached the disk."""
        self.metrics.flush()
        self.log.flush()
        self._save_value(last)
        leaves, _ = tree_flatten(last.state)
        save_checkpoint(
            self.folder / CHECKPOINT,
            {
                "step": last.step,
                "seconds": self.seconds,
                "diverged": last.diverged,
                "limit": self.limit,
                "leaves": leaves,
            },
        )

    def _save_value(self, last: Measurement) -> None:
        """Write the value function, for `neural_tdc.load_value`."""
        task, make_body = self.task, self.plan.make_body
        make = None
        if make_body is not None:
            # A body of the user's own is called with the observation's shape alone.
            make = {"name": self.settings["body"], "settings": getattr(make_body, "keywords", {})}
        parameters = last.state.parameters
        saved = description(
            parameters.body,
            parameters.head,
            last.diverged,
            make=make,
            observation_shape=tuple(task.example.shape[1:]),
            shift=task.shift,
            scale=task.scale,
            table=task.experience.table,
        )
        # In memory first: a full disk is then an OSError, which torch's own writer does not raise.
        content = io.BytesIO()
        torch.save(saved, content)
        write_bytes(self.folder / VALUE, content.getvalue())

    def learn(self) -> None:
        """Learn to the end, measuring, logging and saving; raises what stops it, all saved."""
        plan, task, settings = self.plan, self.task, self.settings
        if self.start >= plan.steps:
            return
        if self.start:
            cut(self.folder / METRICS, self.measured)
        self.metrics = MetricsFile(self.folder / METRICS, self.history)
        self.log = TensorBoardLog(self.folder, self.measured + 1 if self.start else None)
        factors = schedule(settings["schedule"])
        # Only what stands in all other files may be saved: a stop may come between any two lines.
        unsaved: Measurement | None = None
        begun, before = time.perf_counter(), self.seconds
        saved_at = begun
        label = f"{self.name} on {task.name}"
        try:
            with Progress(label, plan.steps, task_runs(task), self.start) as progress:
                for measurement in learn(
                    self.algorithm,
                    self.state,
                    task.experience,
                    self.base,
                    factors,
                    plan.sampling,
                    task.evaluator(self.algorithm.features, self.algorithm.rule),
                    steps=plan.steps,
                    measure_every=settings["measure_every"],
                    limit=self.limit,
                    start=self.start,
                    diverged=self.diverged,
                    compiled=self.compiled,
                ):
                    now = time.perf_counter()
                    self.seconds = before + now - begun
                    self._record(measurement, factors)
                    unsaved = measurement
                    self.log.scalar(
                        "speed/run_steps_per_second",
                        (measurement.step - self.start) * task_runs(task) / (now - begun),
                        measurement.step,
                    )
                    progress.update(measurement.step, *self._present_error())
                    if now - saved_at > CHECKPOINT_EVERY:
                        self._save(measurement)
                        saved_at, unsaved = now, None
                self.log.write_hparams(self._hparams(), self.history)
        finally:
            if unsaved is not None:
                self._save(unsaved)
            self.metrics.close()
            self.log.close()

    def _record(self, measurement: Measurement, factors: Any) -> None:
        values = {name: value.numpy() for name, value in measurement.values.items()}
        at_step = factors(torch.tensor(measurement.step - 1))
        for name, base, factor in zip(self.base._fields, self.base, at_step):
            values[f"step_size/{name}"] = (base.double() * factor.to(base.device)).cpu().numpy()
        self.history.append(measurement.step, values, measurement.diverged.numpy())
        self.metrics.write()
        self.log.write(self.history)

    def _present_error(self) -> tuple[float | None, str]:
        first = shown_metrics(self.history.names)[0]
        present = self.history.values(first.key)[-1]
        mean = float(np.nanmean(present)) if np.isfinite(present).any() else None
        return mean, first.symbol

    def _hparams(self) -> dict[str, Any]:
        left_out = ("out", "resume", "overwrite", "rule")
        kept = {name: value for name, value in self.settings.items() if name not in left_out}
        return {**kept, "rule": self.name}

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        result = summary(
            self.history,
            problem=self.task.name,
            rule=self.name,
            steps=self.plan.steps,
            seed=self.settings["seed"],
            seconds=self.seconds,
        )
        write_json(self.folder / SUMMARY, result)
        return result


def task_runs(task: Task) -> int:
    """Return the size of the population."""
    return len(task.experience.stream_index)


def try_update(
    algorithm: Algorithm, state: State, plan: Plan, task: Task, compiled: bool = False
) -> None:
    """Take one update and one measurement, and forget them: what fails then fails before a run."""
    limit = divergence_limit(state.parameters)
    measurements = learn(
        algorithm,
        state,
        task.experience,
        _base_steps(algorithm, plan, task, limit),
        schedule("constant"),
        plan.sampling,
        task.evaluator(algorithm.features, algorithm.rule),
        steps=1,
        measure_every=1,
        limit=limit,
        compiled=compiled,
    )
    before, after = (_shapes(tree_flatten(each)[0]) for each in (state, next(measurements).state))
    if after != before:
        raise ValueError(f"an update turns a state of shapes {before} into one of {after}")


def _base_steps(algorithm: Algorithm, plan: Plan, task: Task, like: torch.Tensor) -> StepSizes:
    base = base_steps(algorithm.rule, plan.step_sizes, task_runs(task), like)
    return StepSizes(*(size.to(plan.dtype) for size in base))


def _shapes(leaves: Sequence[torch.Tensor]) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in leaves]
