"""One run of deep Q-learning in its folder: what is learned, recorded and saved."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents.dqn.training import Training
from envs.games.stepping import Environments
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.program import Stopped
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, SCORES, SUMMARY
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History
from experiments.runs.results.phases import PhaseClock, rounded
from experiments.runs.results.progress import Progress
from experiments.train_dqn.build import policy_description
from experiments.train_dqn.measurement import (
    EVALUATED,
    NO_GAME,
    evaluation_metrics,
    first_lost_update,
    measured_training,
    play,
    score_protocol,
    summary_of_scores,
)
from experiments.train_dqn.settings import DQNSettings

RUN = "run"
# What a checkpoint holds.
_KEPT = {"scores", "values", "training", "protocol", "policy"}


class DQNRun:
    """A run in its folder, from the beginning or from its checkpoint.

    protocol: everything that its scores depend on besides what is learned
    scores:   of its evaluations;  notes: what begins anew in a resumed run
    """

    def __init__(
        self,
        folder: Path,
        settings: DQNSettings,
        training: Training,
        evaluation: Environments,
        clock: PhaseClock,
    ) -> None:
        self.folder, self.settings, self.training = folder, settings, training
        self.evaluation = evaluation
        self.protocol = score_protocol(settings, evaluation)
        self.scores: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.recorder = Recorder(
            folder / CHECKPOINT,
            {RUN: folder},
            _KEPT,
            device=training.learner.device,
            in_place=True,
            every=settings.checkpoint_every,
            clock=clock,
        )
        if (saved := self.recorder.saved) is None:
            training.begin()
            return
        self.notes = training.load(saved["training"])
        self.scores = saved["scores"]
        self.recorder.resume([saved["step"]])

    @property
    def history(self) -> History:
        """Return the measurements so far."""
        return self.recorder.histories[RUN]

    def learn(self, stopping: Callable[[], bool]) -> None:
        """Learn to the end, or until `stopping` says so, which raises KeyboardInterrupt.

        Raises Stopped where the loss is not finite; the last checkpoint is then one from before.
        """
        settings, training, recorder = self.settings, self.training, self.recorder
        label, steps = f"{settings.arm} on {settings.problem}", settings.steps
        if recorder.start >= steps:
            return
        with (
            recorder.writing(stopping),
            Progress(label, steps, 1, recorder.start, unit="agent steps") as bar,
        ):
            while training.step < steps:
                self._advance()
                bar.update(min(training.step, steps), *self._latest_score())
                if stopping() and training.step < steps:
                    raise KeyboardInterrupt

    def _advance(self) -> None:
        """Learn until the next measurement, and evaluate where it is time."""
        settings, training = self.settings, self.training
        clock, before, begun = self.recorder.clock, training.step, time.perf_counter()
        every = settings.measure_every
        clock.switch("learn")
        progress = training.advance(min((before // every + 1) * every, settings.steps))
        if (lost := first_lost_update(training, progress)) is not None:
            raise Stopped(
                f"error: the loss is not finite at {lost}; what is saved in {self.folder} is from "
                "before that; smaller --body-step and --head-step may help"
            )
        speed = (progress.step - before) / (time.perf_counter() - begun)
        clock.switch("measure")
        values = measured_training(training, progress)
        every = settings.evaluate_every
        if progress.step // every > before // every or progress.step >= settings.steps:
            values |= self._evaluated()
        else:
            values |= dict.fromkeys(EVALUATED, NO_GAME)
        self.recorder.record(
            progress.step,
            {RUN: {name: np.array([value]) for name, value in values.items()}},
            None,
            self._contents,
            {"speed/agent_steps_per_second": speed},
        )

    def _evaluated(self) -> dict[str, float]:
        """Evaluate, and keep the score of every game with its protocol."""
        played = play(self.settings, self.training, self.evaluation, len(self.scores))
        self.scores.append(played)
        write_json(self.folder / SCORES, {"protocol": self.protocol, "evaluations": self.scores})
        return evaluation_metrics(played)

    def _latest_score(self) -> tuple[float | None, str]:
        if self.scores:
            return float(np.mean(self.scores[-1]["scores"])), "score"
        returns = self.history.values("return/training")[-1, 0]
        return (float(returns) if np.isfinite(returns) else None), "return"

    def _contents(self) -> dict[str, Any]:
        """Return what the checkpoint holds."""
        return {
            "scores": self.scores,
            "values": {**stored(self.settings), "hidden": list(self.settings.hidden)},
            "protocol": self.protocol,
            "policy": policy_description(self.settings, self.training.environments),
            "training": self.training.state(self.settings.save_replay),
        }

    def summary(self) -> dict[str, Any]:
        """Write and return the summary, which says that the run is finished."""
        settings, seconds, step = self.settings, self.recorder.seconds, self.training.step
        learning = seconds["learn"]
        result = {
            "problem": settings.problem,
            "rule": settings.rule,
            "arm": settings.arm,
            "steps": step,
            "updates": self.training.updates,
            "seed": settings.seed,
            "seconds": rounded(seconds),
            "agent_steps_per_second": step / learning if learning else None,
            "protocol": self.protocol,
            **summary_of_scores(self.scores),
        }
        write_json(self.folder / SUMMARY, result)
        return result
