"""Finished runs of deep Q-learning side by side: interquartile means and intervals over seeds.

The score of a seed at a time is the mean of its evaluation's whole games; over seeds the
interquartile mean is taken (Agarwal et al. 2021, arXiv 2108.13264), which is the mean of fewer than
four seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.runs.folder.files import read_json
from experiments.runs.folder.folder_contents import SCORES, SUMMARY
from experiments.runs.results.intervals import (
    FEWEST_CUT,
    Interval,
    interquartile_interval,
    interval_name,
)
from experiments.runs.results.report import mean_with_interval, number, table_lines
from experiments.runs.results.statistics import summary_entry
from experiments.train_dqn.figures import Curve

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


def _together(runs: Sequence[Finished]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and scores [time, seed] of the evaluations that all runs have."""
    length = min(len(run.steps) for run in runs)
    return runs[0].steps[:length], np.stack([run.scores[:length] for run in runs], axis=1)


def curves(runs: Sequence[Finished]) -> Curve:
    """Return one arm's learning curve over its seeds."""
    steps, scores = _together(runs)
    return Curve(steps, *interquartile_interval(scores))


def seeds_entry(values: Float[np.ndarray, " seed"]) -> dict[str, float | None]:
    """Return the interquartile mean over seeds and its interval, and the median, as JSON has it."""
    center, low, high = interquartile_interval(values[None])
    return summary_entry(values, Interval(center[0], low[0], high[0]))


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
            last, whole = scores[-LAST:].mean(0), scores.mean(0)
            entries[arm] = {
                "final": seeds_entry(last),
                "over_all_evaluations": seeds_entry(whole),
                "seeds": len(runs),
                "by_seed": last.tolist(),
                "agent_steps": int(runs[0].steps[-1]),
            }
        protocol = next(iter(arms.values()))[0].protocol
        result[game] = {"random": random.get(game), "protocol": protocol, "arms": entries}
    return result


def comparison_table(
    finished: Mapping[str, Mapping[str, Sequence[Finished]]], random: Mapping[str, float]
) -> str:
    """Return the table: a line a game and arm, interquartile means with intervals over seeds."""
    seeds = {len(runs) for arms in finished.values() for runs in arms.values()}
    middle = "mean" if max(seeds) < FEWEST_CUT else "interquartile mean"
    heads = [f"{middle} score, last {LAST} evaluations", f"{middle} over all"]
    rows = [["game", "arm", *heads, "seeds", "random"]]
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
    lines = table_lines(rows)
    lines.append(f"{middle} over seeds [{interval_name(seeds, 'seeds')}] of raw whole-game scores")
    if min(seeds) < FEWEST_CUT <= max(seeds):
        lines.append("of fewer than four seeds the interquartile mean is the mean")
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
