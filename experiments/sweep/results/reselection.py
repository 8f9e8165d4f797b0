"""How sure a selection is: the same selection on resamples of its runs, and with fewer tries."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.sweep.results.rows import Row, key_of, selected_by_rule
from experiments.sweep.results.tables import markdown_table, title_of

_RESAMPLES = 1_000


class Reselection(NamedTuple):
    """The ratio β/α that a rule's best configuration of a panel has, and how sure that is.

    ratio:  of the best configuration on all runs
    shares: {ratio: share of the resamples of runs whose best configuration has it}
    """

    panel: tuple[str, str]
    rule: str
    ratio: float
    shares: dict[float, float]

    @property
    def range(self) -> tuple[float, float]:
        """Return the ends of the 95 % interval: the least ratio that 2.5 % are up to, and back."""
        ordered, tail = sorted(self.shares), 0.025
        below = np.cumsum([self.shares[ratio] for ratio in ordered])
        low = ordered[int(np.argmax(below >= tail))]
        return low, ordered[int(np.argmax(below >= 1 - tail))]


def reselections(swept: Sequence[Row], select: str) -> list[Reselection]:
    """Return the reselection of every rule with several ratios in every panel.

    All configurations of a panel share the runs drawn, as they share streams and initial values.
    A configuration one of whose drawn runs diverged is not selected. Resamples in which nothing
    survives count for no ratio.
    """
    found = []
    for best in selected_by_rule(swept, select):
        several = [
            row for row in swept if (row.panel, row.cell.rule) == (best.panel, best.cell.rule)
        ]
        ratios = np.array([row.configuration.ratio for row in several])
        if len(set(ratios[~np.isnan(ratios)])) < 2:
            continue
        scores = np.array([_scores(row, select) for row in several])
        drawn = np.random.default_rng(0).integers(
            scores.shape[1], size=(_RESAMPLES, len(scores[0]))
        )
        means = scores[:, drawn].mean(2)
        chosen = ratios[means.argmin(0)][np.isfinite(means.min(0))]
        shares = {float(each): float((chosen == each).mean()) for each in np.unique(chosen)}
        found.append(Reselection(best.panel, best.cell.rule, best.configuration.ratio, shares))
    return found


def _scores(row: Row, select: str) -> np.ndarray:
    values = row.values.get(key_of(select), np.full(len(row.diverged), math.inf))
    return np.where(row.diverged | ~np.isfinite(values), math.inf, values)


class Tries(NamedTuple):
    """What a rule gains by having more configurations than the rule with the fewest.

    configurations, fewest: numbers of configurations of the rule and of the rule with the fewest
    factor:        median score of the best of `fewest` drawn configurations over that of all
    """

    configurations: int
    fewest: int
    factor: float


def tries(swept: Sequence[Row], select: str) -> dict[tuple[tuple[str, str], str], Tries]:
    """Return {(panel, rule): tries} for every rule with a score."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in swept:
        scores.setdefault(row.panel, {}).setdefault(row.cell.rule, []).append(row.score(select))
    found = {}
    for panel, by_rule in scores.items():
        fewest = min(map(len, by_rule.values()))
        for rule, several in by_rule.items():
            best = min(several)
            if math.isfinite(best) and best > 0:
                factor = median_best(several, fewest) / best
                found[panel, rule] = Tries(len(several), fewest, factor)
    return found


def median_best(scores: Sequence[float], count: int) -> float:
    """Return the median of the least of `count` scores drawn without replacement.

    The k-th smallest of n is the least with probability C(n − k, count − 1)/C(n, count).
    """
    ordered, below, size = sorted(scores), 0.0, len(scores)
    for place, score in enumerate(ordered):
        below += math.comb(size - 1 - place, count - 1) / math.comb(size, count)
        if below >= 0.5:
            return score
    return ordered[-1]


def reselection_lines(
    found: Sequence[Reselection], counted: Mapping[tuple[tuple[str, str], str], Tries]
) -> list[list[str]]:
    """Return the rows of a table of both, without heads; see `RESELECTION_HEADS`."""
    by_key = {(each.panel, each.rule): each for each in found}
    lines = []
    for (panel, rule), tried in counted.items():
        each = by_key.get((panel, rule))
        cells = ["–", "–", "–"]
        if each is not None:
            low, high = each.range
            cells = [f"{each.ratio:g}", f"{each.shares.get(each.ratio, 0.0):.0%}"]
            cells.append(f"[{low:g}, {high:g}]")
        lines.append(
            [", ".join(panel), rule, *cells, str(tried.configurations), f"{tried.factor:.2f}"]
        )
    return lines


RESELECTION_HEADS = [
    "problem",
    "rule",
    "best β/α",
    "chosen again",
    "95 % interval",
    "configurations",
    "as few as the fewest",
]


def selection_markdown(swept: Sequence[Row], select: str) -> str:
    """Return how sure the best ratios are, and what more configurations give, as Markdown."""
    lines = reselection_lines(reselections(swept, select), tries(swept, select))
    return (
        f"{markdown_table([RESELECTION_HEADS, *lines])}\n\n"
        f"{title_of(select)}. *Best β/α* is that of the rule's best configuration; the selection "
        "is repeated on 1,000 resamples of the runs: *chosen again* is the share that have the "
        "same ratio, the interval holds 95 % of them. *As few as the fewest*: the median best "
        "score of as many configurations, drawn from the rule's, as the rule with the fewest has, "
        "over the best of all: so much of a rule's lead may come from more tries.\n"
    )
