"""Whether the errors that need no true values order a study's configurations as RMSVE does."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.runs.results.intervals import Interval
from experiments.sweep.results.measures import ratio_over_problems
from experiments.sweep.results.overall import StudyPanel
from experiments.sweep.results.rows import Row, panels_of
from experiments.sweep.results.tables import markdown_table, ratio_text, title_of

TRUTH = "final_rmsve"
CRITERIA = ("final_rmspbe", "final_lstd_rmsve")


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; NaN for fewer than three pairs or equal numbers."""
    from scipy.stats import spearmanr

    if len(one) < 3 or len({*one}) == 1 or len({*other}) == 1:
        return math.nan
    return float(spearmanr(one, other).statistic)


def agreement(swept: Sequence[Row], criterion: str) -> tuple[dict[StudyPanel, float], list[float]]:
    """Return {panel: rank correlation with RMSVE} and [panel] what a choice by the criterion costs.

    Over the configurations of all rules of which no run diverged. The cost is the RMSVE of the
    configuration that is best by the criterion over the smallest RMSVE.
    """
    correlations, costs = {}, []
    for panel in panels_of(swept):
        pairs = np.array(
            [
                (row.score(criterion), row.score(TRUTH))
                for row in swept
                if row.panel == panel and not row.cell.control
            ]
        )
        pairs = pairs[np.isfinite(pairs).all(1)]
        known = rank_correlation(*pairs.T) if len(pairs) else math.nan
        if math.isfinite(known):
            correlations[panel] = known
            costs.append(float(pairs[pairs[:, 0].argmin(), 1] / pairs[:, 1].min()))
    return correlations, costs


def _mean_interval(values: Mapping[StudyPanel, float]) -> Interval:
    """Return the mean over panels and its 95 % interval, on Fisher's scale."""
    scaled = np.arctanh(np.array([*values.values()]).clip(-0.999, 0.999))
    interval = ratio_over_problems(np.exp(scaled))
    return Interval(*(np.tanh(np.log(end)) for end in interval))


def agreement_markdown(swept: Sequence[Row]) -> str:
    """Return a table with a line an error; "" where a study measures none of them."""
    lines = []
    for criterion in CRITERIA:
        correlations, costs = agreement(swept, criterion)
        if costs:
            lines.append(
                [
                    title_of(criterion),
                    ratio_text(_mean_interval(correlations)),
                    f"{min(correlations.values()):.2f}",
                    ratio_text(ratio_over_problems(np.array(costs))),
                    f"{max(costs):.2f}",
                ]
            )
    if not lines:
        return ""
    heads = ["error", "rank correlation", "least", "RMSVE of the best by it", "at worst"]
    return (
        f"{markdown_table([heads, *lines])}\n\n"
        f"Over the configurations of all rules of which no run diverged: rank correlation with "
        f"{title_of(TRUTH)}, and the RMSVE of the configuration that is best by the error over the "
        "least RMSVE. Means over panels with 95 % intervals over panels.\n"
    )
