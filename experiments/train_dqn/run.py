"""One run of deep Q-learning: what is learned, measured, evaluated and saved."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.dqn.evaluation import GreedyActor, evaluate_episodes
from agents.dqn.training import Training, TrainingProgress
from envs.games.stepping import Environments, observation_shape
from experiments.runs.command_line import Stopped
from experiments.runs.common_settings import stored
from experiments.runs.files import write_json
from experiments.runs.history import History
from experiments.runs.intervals import interquartile_mean, mean_interval
from experiments.runs.recorder import Recorder
from experiments.runs.report import Progress
from experiments.runs.run_folder import CHECKPOINT, SCORES, SUMMARY
from experiments.runs.statistics import number_or_none, summary_entry
from experiments.train_dqn.settings import DQNSettings
from neural_tdc.split_rates import effective_rates

RUN = "run"
# What a checkpoint holds.
_KEPT = {"scores", "values", "training", "protocol", "policy"}
_NO_GAME = float("nan")


class DQNRun:
    """A run in its folder, from the beginning or from its checkpoint."""

    def __init__(
        self,
        folder: Path,
        settings: DQNSettings,
        training: Training,
        evaluation: Environments,
    ) -> None:
        self.folder, self.settings, self.training = folder, settings, training
        self.evaluation = evaluation
        self.scores: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.recorder = Recorder(
            folder / CHECKPOINT,
            {RUN: folder},
            _KEPT,
            device=training.learner.device,
            in_place=True,
            every=settings.checkpoint_every,
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
        before, begun = training.step, time.perf_counter()
        every = settings.measure_every
        progress = training.advance(min((before // every + 1) * every, settings.steps))
        self._check_finite(progress)
        measured = self._measured(progress)
        speed = (progress.step - before) / (time.perf_counter() - begun)
        every = settings.evaluate_every
        if progress.step // every > before // every or progress.step >= settings.steps:
            with self.recorder.untimed():
                measured |= self._evaluated()
        else:
            measured |= dict.fromkeys(_EVALUATED, _NO_GAME)
        self.recorder.record(
            progress.step,
            {RUN: {name: np.array([value]) for name, value in measured.items()}},
            None,
            self._contents,
            {"speed/agent_steps_per_second": speed},
        )

    def _check_finite(self, progress: TrainingProgress) -> None:
        wrong = (~torch.isfinite(progress.loss)).cpu().nonzero()
        if not len(wrong):
            return
        update = progress.updates - len(progress.loss) + int(wrong[0]) + 1
        schedule = self.training.schedule
        step = schedule.learning_starts + update * schedule.update_every
        raise Stopped(
            f"error: the loss is not finite at agent step {step:,} (update {update:,}); what is "
            f"saved in {self.folder} is from before; smaller --body-step and --head-step may help"
        )

    def _measured(self, progress: TrainingProgress) -> dict[str, float]:
        training = self.training
        rates = effective_rates(training.learner.optimizer)
        norms: dict[str, Any] = dict.fromkeys(("body", "head"), _NO_GAME)
        if training.last_batch is not None:
            norms = training.learner.gradient_norms(training.last_batch)
        return {
            "return/training": _mean(progress.returns),
            "length/training": _mean(progress.lengths),
            "games/training": float(len(progress.returns)),
            "loss/td": _mean(progress.loss),
            "value/mean_q": _mean(progress.value),
            "exploration/epsilon": training.schedule.epsilon(progress.step),
            "step_size/body": rates["body"],
            "step_size/head": rates["head"],
            "gradient/body": float(norms["body"]),
            "gradient/head": float(norms["head"]),
            "replay/fill": training.replay.fill,
        }

    def _evaluated(self) -> dict[str, float]:
        """Play whole games apart from training, and keep each one's score with its protocol."""
        settings, step = self.settings, self.training.step
        seed = settings.seed + 1_000_000_007 * (len(self.scores) + 1)
        scores, lengths = evaluate_episodes(
            GreedyActor(self.training.learner.network),
            self.evaluation,
            settings.evaluation_epsilon,
            seed,
            settings.evaluation_longest,
        )
        self.scores.append({"step": step, "scores": scores, "lengths": lengths})
        write_json(self.folder / SCORES, {"protocol": self.protocol(), "evaluations": self.scores})
        interval = mean_interval(np.array(scores))
        ends = (float(interval.mean), float(interval.low), float(interval.high))
        return dict(zip(_EVALUATED, (*ends, _mean(lengths))))

    def protocol(self) -> dict[str, Any]:
        """Return everything that the scores of this run depend on beside what was learned."""
        settings = self.settings
        return {
            **self.evaluation.protocol,
            "epsilon": settings.evaluation_epsilon,
            "games": settings.evaluation_episodes,
            "longest_game_agent_steps": settings.evaluation_longest,
            "score": "raw, of whole games",
        }

    def _policy(self) -> dict[str, Any]:
        """Return what it takes to make the network again, without any environment."""
        environments, settings = self.training.environments, self.settings
        return {
            "name": settings.network,
            "observation_shape": list(observation_shape(environments)),
            "actions": environments.actions,
            "scale": environments.scale,
            "features": settings.features,
            "hidden": list(settings.hidden),
        }

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
            "protocol": self.protocol(),
            "policy": self._policy(),
            "training": self.training.state(self.settings.save_replay),
        }

    def summary(self) -> dict[str, Any]:
        """Write and return the summary of the finished run."""
        settings, seconds = self.settings, self.recorder.seconds
        means = [float(np.mean(each["scores"])) for each in self.scores]
        result = {
            "problem": settings.problem,
            "arm": settings.arm,
            "steps": self.training.step,
            "updates": self.training.updates,
            "seed": settings.seed,
            "seconds": number_or_none(seconds),
            "agent_steps_per_second": number_or_none(self.training.step / seconds)
            if seconds
            else None,
            "protocol": self.protocol(),
            "final": _score_entry(self.scores[-1]["scores"]) if self.scores else None,
            "best": max(means, default=None),
            "mean_over_evaluations": float(np.mean(means)) if means else None,
        }
        write_json(self.folder / SUMMARY, result)
        return result


_EVALUATED = ("evaluation/score", "evaluation/low", "evaluation/high", "evaluation/length")


def _mean(values: Any) -> float:
    return float(np.mean(torch.as_tensor(values).cpu().numpy())) if len(values) else _NO_GAME


def _score_entry(scores: list[float]) -> dict[str, Any]:
    return {
        **summary_entry(np.array(scores)),
        "interquartile_mean": number_or_none(interquartile_mean(np.array(scores))),
        "scores": scores,
    }
