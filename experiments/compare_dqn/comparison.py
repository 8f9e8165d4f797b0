"""Finished runs of deep Q-learning side by side: interquartile means and intervals over seeds.

The score of a seed at a time is the mean of its evaluation's whole games; over seeds the
interquartile mean is taken, with a bootstrap interval over seeds (Agarwal et al. 2021,
arXiv 2108.13264).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.runs.files import read_json
from experiments.runs.report import mean_with_interval, number
from experiments.runs.run_folder import SCORES, SUMMARY
from experiments.runs.statistics import interquartile_mean, number_or_none
from experiments.train_dqn.figures import Curve

RESAMPLES = 10_000
# The last evaluations whose mean stands in the table: one alone hangs on its few games.
LAST = 3


class Finished(NamedTuple):
    """A finished run: its evaluations [time], the mean score of each, and how it was scored."""

    steps: np.ndarray
    scores: np.ndarray
    protocol: dict[str, Any]
    steps_per_second: float | None


def read_finished(folder: Path) -> Finished:
    """Read the scores of a finished run; ValueError where a file is missing or damaged."""
    scores, summary = read_json(folder / SCORES), read_json(folder / SUMMARY)
    evaluations = scores["evaluations"]
    return Finished(
        np.array([each["step"] for each in evaluations]),
        np.array([float(np.mean(each["scores"])) for each in evaluations]),
        scores["protocol"],
        summary["agent_steps_per_second"],
    )


def interquartile_interval(
    values: Float[np.ndarray, "time seed"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the interquartile mean over seeds and its 95 % percentile bootstrap interval.

    All three are [time]. With one seed there is no interval: NaN. The resamples are the same at
    every call and shared over time.
    """
    seeds = values.shape[1]
    center = np.array([interquartile_mean(row) for row in values])
    if seeds < 2:
        none = np.full(len(values), np.nan)
        return center, none, none.copy()
    drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    low, high = np.empty(len(values)), np.empty(len(values))
    cut = seeds // 4
    for index, row in enumerate(values):
        ordered = np.sort(row[drawn], axis=1)[:, cut : seeds - cut]
        low[index], high[index] = np.percentile(ordered.mean(1), (2.5, 97.5))
    return center, low, high


def _together(runs: Sequence[Finished]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and scores [time, seed] of the evaluations that all runs have."""
    length = min(len(run.steps) for run in runs)
    return runs[0].steps[:length], np.stack([run.scores[:length] for run in runs], axis=1)


def curves(runs: Sequence[Finished]) -> Curve:
    """Return one arm's learning curve over its seeds."""
    steps, scores = _together(runs)
    return Curve(steps, *interquartile_interval(scores))


def _entry(values: np.ndarray) -> dict[str, float | None]:
    center, low, high = (float(end[0]) for end in interquartile_interval(values[None]))
    return {
        "mean": number_or_none(center),
        "low": number_or_none(low),
        "high": number_or_none(high),
    }


def summary_of(
    finished: Mapping[str, Mapping[str, Sequence[Finished]]], random: Mapping[str, float]
) -> dict[str, Any]:
    """Return {game: {"random", "arms": {arm: final, over all evaluations, seeds, protocol}}}.

    final:  the mean of a seed's last three evaluations; `mean` is the interquartile mean over seeds
    """
    result: dict[str, Any] = {}
    for game, arms in finished.items():
        entries = {}
        for arm, runs in arms.items():
            _, scores = _together(runs)
            entries[arm] = {
                "final": _entry(scores[-LAST:].mean(0)),
                "over_all_evaluations": _entry(scores.mean(0)),
                "seeds": len(runs),
                "by_seed": scores[-LAST:].mean(0).tolist(),
                "agent_steps": int(runs[0].steps[-1]),
            }
        protocol = next(iter(arms.values()))[0].protocol
        result[game] = {"random": random.get(game), "protocol": protocol, "arms": entries}
    return result


def comparison_table(
    finished: Mapping[str, Mapping[str, Sequence[Finished]]], random: Mapping[str, float]
) -> str:
    """Return the table: a line a game and arm, interquartile means with intervals over seeds."""
    rows = [["game", "arm", f"score, last {LAST} evaluations", "over all", "seeds", "random"]]
    for game, entry in summary_of(finished, random).items():
        for arm, values in entry["arms"].items():
            rows.append(
                [
                    game,
                    arm,
                    mean_with_interval(values["final"]),
                    mean_with_interval(values["over_all_evaluations"]),
                    str(values["seeds"]),
                    number(random.get(game)),
                ]
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    lines.append("interquartile mean [95 % bootstrap interval] over seeds of raw whole-game scores")
    if min(len(runs) for arms in finished.values() for runs in arms.values()) < 5:
        lines.append("with fewer than five seeds an interval says little more than their range")
    return "\n".join(lines)


def protocols_differ(finished: Mapping[str, Mapping[str, Sequence[Finished]]]) -> str | None:
    """Return a warning where runs of one game were scored in different ways, None otherwise."""
    for game, arms in finished.items():
        protocols = [run.protocol for runs in arms.values() for run in runs]
        for protocol in protocols[1:]:
            for name, value in protocol.items():
                if protocols[0].get(name) != value:
                    return (
                        f"the scores of {game} were not taken alike: {name} is "
                        f"{protocols[0].get(name)} and {value}"
                    )
    return None
