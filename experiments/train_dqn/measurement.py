"""What is measured of a run of deep Q-learning, and scores of whole games with their protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from agents.dqn.evaluation import GreedyActor, evaluate_episodes
from agents.dqn.training import Training, TrainingProgress
from envs.games.stepping import Environments
from experiments.runs.results.intervals import interquartile_mean, mean_interval
from experiments.runs.results.statistics import number_or_none, summary_entry
from experiments.train_dqn.settings import DQNSettings
from neural_tdc.split_rates import effective_rates

EVALUATED = ("evaluation/score", "evaluation/low", "evaluation/high", "evaluation/length")
# Where no game has ended.
NO_GAME = float("nan")


def _mean(values: Any) -> float:
    return float(np.mean(torch.as_tensor(values).cpu().numpy())) if len(values) else NO_GAME


def measured_training(training: Training, progress: TrainingProgress) -> dict[str, float]:
    """Return {metric: value} of the training since the last measurement."""
    rates = effective_rates(training.learner.optimizer)
    norms: Mapping[str, Any] = dict.fromkeys(rates, NO_GAME)
    if training.last_batch is not None:
        norms = training.learner.gradient_norms(training.last_batch)
    return {
        "return/training": _mean(progress.returns),
        "length/training": _mean(progress.lengths),
        "games/training": float(len(progress.returns)),
        "loss/td": _mean(progress.loss),
        "value/mean_q": _mean(progress.value),
        "exploration/epsilon": training.schedule.epsilon(progress.step),
        **{f"step_size/{label}": rate for label, rate in rates.items()},
        **{f"gradient/{label}": float(norms[label]) for label in rates},
        "replay/fill": training.replay.fill,
    }


def first_lost_update(training: Training, progress: TrainingProgress) -> str | None:
    """Return where the loss was not finite for the first time, in words; None where it was."""
    wrong = (~torch.isfinite(progress.loss)).cpu().nonzero()
    if not len(wrong):
        return None
    update = progress.updates - len(progress.loss) + int(wrong[0]) + 1
    schedule = training.schedule
    step = schedule.learning_starts + update * schedule.update_every
    return f"agent step {step:,} (update {update:,})"


def evaluation_seed(settings: DQNSettings, number: int) -> int:
    """Return the seed of the games of a run's evaluation of this number."""
    return settings.seed + 1_000_000_007 * (number + 1)


def play(
    settings: DQNSettings, training: Training, environments: Environments, number: int
) -> dict[str, Any]:
    """Play whole games apart from training; {"step", "scores", "lengths"}.

    number: of the evaluation in its run, from which its games are drawn
    """
    scores, lengths = evaluate_episodes(
        GreedyActor(training.learner.network),
        environments,
        settings.evaluation_epsilon,
        evaluation_seed(settings, number),
        settings.evaluation_longest,
    )
    return {"step": training.step, "scores": scores, "lengths": lengths}


def evaluation_metrics(played: Mapping[str, Any]) -> dict[str, float]:
    """Return {metric: value} of an evaluation."""
    interval = mean_interval(np.array(played["scores"]))
    ends = (float(interval.mean), float(interval.low), float(interval.high))
    return dict(zip(EVALUATED, (*ends, _mean(played["lengths"]))))


def score_protocol(settings: DQNSettings, environments: Environments) -> dict[str, Any]:
    """Return everything that the scores of a run depend on besides what was learned."""
    return {
        **environments.protocol,
        "epsilon": settings.evaluation_epsilon,
        "games": settings.evaluation_episodes,
        "longest_game_agent_steps": settings.evaluation_longest,
        "score": "raw, of whole games",
    }


def summary_of_scores(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the last evaluation's scores, the best mean, and the mean over all evaluations."""
    means = [float(np.mean(each["scores"])) for each in evaluations]
    return {
        "final": _score_entry(evaluations[-1]["scores"]) if evaluations else None,
        "best": max(means, default=None),
        "mean_over_evaluations": float(np.mean(means)) if means else None,
    }


def _score_entry(scores: list[float]) -> dict[str, Any]:
    return {
        **summary_entry(np.array(scores)),
        "interquartile_mean": number_or_none(interquartile_mean(np.array(scores))),
        "scores": scores,
    }
