"""One method's run: what it learns from ever longer prefixes of the data, measured and saved."""

import io
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from agents.policy_evaluation import OnTaskProgress, Task
from agents.resampled_task import Evidence
from agents.starts import start_states, with_start_values
from experiments.evaluate_policy.learning.start_value import run_evidence, value_of_runs
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.runs.command_line.checks import named
from experiments.runs.folder.files import write_bytes
from experiments.runs.folder.run_folder import CHECKPOINT, VALUE
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History
from experiments.runs.results.phases import PhaseClock
from neural_tdc.baselines.linear_value import FEATURE_BLOCKS
from neural_tdc.baselines.prefixes import prefix_measurements
from neural_tdc.learning.sampling import with_observations
from neural_tdc.rules.rule import Rule
from neural_tdc.tensor_file import save_tensors
from neural_tdc.types import Evaluator, FeatureMap, Measurement, Transition, mapped
from neural_tdc.value_function import description


def run_streams(task: Task) -> list[Transition]:
    """Return the stream of every run, [time, …], on the CPU, with observations as in the task."""
    experience = task.experience
    found = []
    for run, index in enumerate(experience.stream_index.tolist()):
        stream = mapped(mapped(experience.transitions, itemgetter(index)), Tensor.cpu)
        if experience.rows is not None:
            rows = experience.rows[run].cpu()
            stream = mapped(stream, itemgetter(rows))
        if experience.table is not None:
            stream = with_observations(experience, stream)
        found.append(stream)
    return found


class MethodRun:
    """One method's run, from the beginning or after the prefixes that are done."""

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        flags: str,
        plan: EvaluationPlan,
        task: Task,
        on_progress: OnTaskProgress,
        clock: PhaseClock,
    ) -> None:
        self.name, self.folder, self.settings, self.flags = name, folder, settings, flags
        self.plan, self.task, self.on_progress = plan, task, on_progress
        self.method = plan.methods[name]
        self.recorder = Recorder(folder / CHECKPOINT, {name: folder}, {"diverged"}, clock=clock)
        if self.recorder.saved is not None:
            self.recorder.resume([self.recorder.start])

    @property
    def history(self) -> History:
        """Return the measurements so far."""
        return self.recorder.histories[self.name]

    def _evaluator(self, features: FeatureMap) -> Evaluator:
        """Return the evaluator of the task, with the value of the starts, for the CPU."""
        starts = start_states(self.task)
        evaluator = with_start_values(self.task.evaluator(features, Rule()), features, starts)
        return lambda parameters: evaluator(
            tree_map(lambda leaf: leaf.to(self.plan.device), parameters)
        )

    def learn(self) -> None:
        """Learn from every prefix that is not done, measuring, logging and saving."""
        plan, recorder = self.plan, self.recorder
        if recorder.start >= plan.steps:
            return
        label = f"{self.name} on {self.task.name}"
        with recorder.writing(), named(self.flags):
            for measurement in prefix_measurements(
                self.method,
                run_streams(self.task),
                self._evaluator,
                steps=plan.steps,
                prefixes=self.settings["prefixes"],
                seed=self.settings["seed"],
                start=recorder.start,
                on_progress=partial(self.on_progress, label),
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
        parameters, _, blocks = last.state
        task = self.task
        saved = description(
            parameters.body,
            parameters.head,
            last.diverged,
            make={"name": FEATURE_BLOCKS, "settings": {"blocks": blocks}, "seed": 0},
            observation_shape=tuple(task.example.shape[1:]),
            shift=task.shift,
            scale=task.scale,
            table=task.experience.table if task.states is not None else None,
        )
        content = io.BytesIO()
        save_tensors(saved, content)
        write_bytes(self.folder / VALUE, content.getvalue())
        return {"diverged": last.diverged}

    @property
    def evidence(self) -> Evidence:
        """Return how much data the first run learns from."""
        return run_evidence(self.task)

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run, with its passes over the data."""
        steps, seed = self.plan.steps, self.settings["seed"]
        more = {
            **value_of_runs(self.history, self.task),
            "passes": self.method.passes,
            "settings": self._own_settings(),
        }
        return self.recorder.summaries(self.task.name, steps, seed, **more)[self.name]
