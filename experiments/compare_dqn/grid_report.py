"""What a comparison over a grid says: the best rates of each entrant, and its fresh scores.

The score of a run is the mean of its last three evaluations. Over seeds the interquartile mean is
taken; entrants are compared by the probability that one scores more (Agarwal et al. 2021, arXiv
2108.13264).
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.compare_dqn.comparison import LAST, seeds_entry
from experiments.compare_dqn.grid import Candidate, Entrant
from experiments.compare_dqn.stage import StageScores
from experiments.runs.results.comparisons import improvement_probability
from experiments.runs.results.intervals import interquartile_mean, interval_name
from experiments.runs.results.report import mean_with_interval, number, table_lines
from experiments.runs.results.statistics import number_or_none


class GameReport(NamedTuple):
    """What was found on one game.

    random:     mean score of the random policy
    chosen:     {entrant: its best candidate, and what it scored in the selection}
    selection:  {candidate: [seed] scores of the selection, −∞ where it diverged}
    report:     the runs of the best candidates from fresh seeds
    """

    random: float
    chosen: dict[Entrant, tuple[Candidate, float]]
    selection: dict[Candidate, np.ndarray]
    report: StageScores


def last_scores(scores: Float[np.ndarray, "time seed"]) -> Float[np.ndarray, " seed"]:
    """Return the mean of each run's last three evaluations."""
    return scores[-LAST:].mean(0)


def fresh_scores(found: GameReport, entrant: Entrant) -> Float[np.ndarray, " seed"]:
    """Return the scores of an entrant's best candidate from fresh seeds."""
    return last_scores(found.report.of(found.chosen[entrant][0])[0])


def _pair(first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
    found = improvement_probability(first, second)
    return {name: number_or_none(float(end)) for name, end in zip(("mean", "low", "high"), found)}


def grid_summary(reports: Mapping[str, GameReport]) -> dict[str, Any]:
    """Return {game: what the table shows, every candidate of the selection, every fresh score}."""
    result: dict[str, Any] = {}
    for game, found in reports.items():
        entries = {}
        for entrant, (candidate, selected) in found.chosen.items():
            scores, diverged = found.report.of(candidate)
            last = last_scores(scores)
            entries[entrant.name] = {
                **candidate._asdict(),
                "selection_score": number_or_none(selected),
                "final": seeds_entry(last),
                "over_all_evaluations": seeds_entry(scores.mean(0)),
                "by_seed": last.tolist(),
                "diverged": int(diverged.sum()),
            }
        names = {entrant.name: fresh_scores(found, entrant) for entrant in found.chosen}
        result[game] = {
            "random": found.random,
            "protocol": found.report.protocol,
            "agent_steps": int(found.report.steps[-1]),
            "run_steps_per_second": found.report.run_steps_per_second,
            "entrants": entries,
            "probability_of_improvement": {
                f"{one} over {other}": _pair(names[one], names[other])
                for one, other in itertools.permutations(names, 2)
            },
            "selection": [
                {
                    **candidate._asdict(),
                    "score": number_or_none(interquartile_mean(scores)),
                    "diverged": int(np.isneginf(scores).sum()),
                    "by_seed": [number_or_none(each) for each in scores.tolist()],
                }
                for candidate, scores in found.selection.items()
            ],
        }
    return result


def grid_table(summary: Mapping[str, Any]) -> str:
    """Return a line per game and entrant, and the probabilities of improvement of the best one.

    summary: that of `grid_summary`
    """
    head = ["game", "rule/arm", "body rate", "head rate", f"score, last {LAST} evaluations"]
    rows = [[*head, "over all", "diverged", "better than it"]]
    for game, entry in summary.items():
        entries = entry["entrants"]
        top = max(entries, key=lambda name: entries[name]["final"]["mean"])
        for name, values in entries.items():
            better = entry["probability_of_improvement"].get(f"{top} over {name}")
            rows.append(
                [
                    game,
                    name,
                    f"{values['body_step']:g}",
                    f"{values['head_step']:g}",
                    mean_with_interval(values["final"]),
                    mean_with_interval(values["over_all_evaluations"]),
                    f"{values['diverged']} of {len(values['by_seed'])}",
                    "the best" if name == top else mean_with_interval(better),
                ]
            )
        rows.append([game, "random", "", "", number(entry["random"]), "", "", ""])
    seeds = len(next(iter(entries.values()))["by_seed"])
    note = (
        f"interquartile mean over {seeds} fresh seeds [{interval_name([seeds], 'seeds')}]; better "
        "than it: probability that a run of the best scores more [95 % bootstrap interval]"
    )
    return "\n".join([*table_lines(rows), note])
