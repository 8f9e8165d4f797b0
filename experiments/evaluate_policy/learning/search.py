"""The run of `--rule auto`: the best value function, chosen without a truth.

Many candidates learn from the same transitions, see `neural_tdc.best_value`. Where a truth is
known it is used to measure the choice, never to make it.
"""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.policy_evaluation import Task
from agents.resampled_task import Evidence, evidence
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.learning.choice import (
    choice_figure,
    choice_lines,
    choice_summary,
    saved_choice,
    value_error,
)
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.evaluate_policy.settings.evaluation_settings import AUTO, FOR_AUTO
from experiments.runs.command_line.checks import named
from experiments.runs.folder.files import write_bytes
from experiments.runs.folder.run_folder import CHECKPOINT, FIGURE, VALUE
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History
from experiments.runs.results.phases import PhaseClock
from neural_tdc.baselines.families import CandidateProgress
from neural_tdc.baselines.log_preparation import ordered_stream, parts_of
from neural_tdc.best_value import FOLDS, BestValue, best_value
from neural_tdc.learning.sampling import with_observations
from neural_tdc.tensor_file import save_tensors
from neural_tdc.types import Transition, mapped

# The log itself and draws of it, which are cheap: only heads are solved anew.
RESAMPLES = 101


def first_stream(plan: EvaluationPlan, task: Task) -> Transition:
    """Return the stream that the first run of a rule learns from, [time, …], on the CPU.

    Its observations are as in the task. Of a log without rules it is all, since nothing needs a
    part of its own to measure on: every part is held out once. Raises ValueError where it is too
    short to choose from.
    """
    stream = mapped(task.experience.transitions, lambda leaf: leaf[0].cpu())
    if isinstance(plan.problem, LoggedProblem):
        used = len(stream.reward) if plan.rules or plan.methods else None
        # In the precision of the file.
        stream = mapped(plan.problem.plain(slice(used)), lambda leaf: leaf[0])
        if task.shift is not None and task.scale is not None:
            stream = stream._replace(
                observation=(stream.observation - task.shift) / task.scale,
                next_observation=(stream.next_observation - task.shift) / task.scale,
            )
    elif task.experience.table is not None:
        stream = with_observations(task.experience, stream)
    parts_of(ordered_stream(stream), FOLDS)
    return stream


class SearchRun:
    """The search in its folder: new, or finished before.

    workers: threads that it may compute on
    """

    name = AUTO

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        stream: Transition,
        flags: str,
        task: Task,
        on_progress: CandidateProgress,
        clock: PhaseClock,
        workers: int,
        vector: str | None,
    ) -> None:
        self.folder, self.settings, self.stream, self.task = folder, settings, stream, task
        self.flags, self.on_progress, self.workers = flags, on_progress, workers
        self.vector = vector
        self.steps = len(stream.reward)
        self.recorder = Recorder(folder / CHECKPOINT, {AUTO: folder}, {"choice"}, clock=clock)
        self.choice: dict[str, Any] | None = None
        if (saved := self.recorder.saved) is not None:
            self.choice = saved["choice"]
            self.recorder.resume([self.recorder.start])

    @property
    def history(self) -> History:
        """Return the one measurement, at the end."""
        return self.recorder.histories[AUTO]

    def learn(self) -> None:
        """Search, measure and save; a search is finished, or it starts from the beginning."""
        settings, recorder = self.settings, self.recorder
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
            kept = {name: value for name, value in settings.items() if name in FOR_AUTO}
            recorder.write_hparams({AUTO: {**kept, "rule": AUTO}})
        choice_figure(self.folder / FIGURE, best, self.task, self.vector)

    def _found(self) -> BestValue:
        settings, threads = self.settings, torch.get_num_threads()
        # Several threads of torch wait for one another, for long where others use the cores.
        torch.set_num_threads(1)
        try:
            with named(self.flags):
                return best_value(
                    self.stream,
                    seed=settings["seed"],
                    updates=settings["updates"],
                    budget=settings["budget"],
                    resamples=1 if settings["resample"] == "none" else RESAMPLES,
                    on_progress=self.on_progress,
                    workers=self.workers,
                )
        finally:
            torch.set_num_threads(threads)

    def _contents(self, best: BestValue) -> dict[str, Any]:
        """Return what the checkpoint holds, after the value function is written."""
        content = io.BytesIO()
        save_tensors(saved_choice(best, self.task), content)
        write_bytes(self.folder / VALUE, content.getvalue())
        return {"choice": self.choice}

    @property
    def evidence(self) -> Evidence:
        """Return how much data is learned from."""
        return evidence(self.stream)

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished search."""
        # Updates of candidates are not those of a rule.
        more = {"run_steps_per_second": None, **(self.choice or {})}
        seed = self.settings["seed"]
        return self.recorder.summaries(self.task.name, self.steps, seed, **more)[AUTO]

    def lines(self) -> list[str]:
        """Return what is printed of the choice."""
        return choice_lines(self.summary(), truth=self.task.truth is not None)
