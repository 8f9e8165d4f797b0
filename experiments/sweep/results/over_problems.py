"""Every rule and control over all panels of a study: what the table and the figure of it show."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import Interval
from experiments.sweep.results.measures import (
    ENOUGH_PROBLEMS,
    NEAR,
    ROUNDING_OF_BEST,
    hyperparameter_sensitivity,
    improvement_interval,
    median_of_all,
    normalised_scores,
    ratio_over_problems,
    share_near_best,
    shares_within,
    told_apart,
)
from experiments.sweep.results.overall import StudyPanel
from experiments.sweep.results.rows import Report, Row, key_of, panels_of
from experiments.sweep.results.tables import markdown_table, ratio_text, title_of

# Multiples of the baseline's median error that profiles are told at.
THRESHOLDS = (0.5, 1.0, 1.5, 2.0)


class RuleOverProblems(NamedTuple):
    """A rule's, or a control's, best configurations on fresh runs, relative to the baseline's.

    ratios:      [panel] of the medians over all runs; infinite where half of them diverged, 0 where
        the error is rounding
    ratio:       their geometric mean and its interval over panels
    improvement: how often a run has a smaller error than one of the baseline's
    scaled:      [panel][run] errors over the baseline's median; infinite where a run diverged
    near:        share of its configurations within `NEAR` of its best; NaN for a control
    sensitivity: by Adkins et al. 2024; NaN for a control and where settings differ by panel
    """

    rule: str
    ratios: Float[np.ndarray, " panel"]
    ratio: Interval
    improvement: Interval
    scaled: list[np.ndarray]
    near: float
    sensitivity: float


def compared_panels(swept: Sequence[Row], select: str) -> list[StudyPanel]:
    """Return the panels where the rules' best error can be compared; see `told_apart`."""
    scores: dict[StudyPanel, list[float]] = {panel: [] for panel in panels_of(swept)}
    for row in (row for row in swept if not row.cell.control):
        scores[row.panel].append(row.score(select))
    return [panel for panel, of in scores.items() if told_apart(of)]


def rules_over_problems(
    swept: Sequence[Row], answers: Sequence[Report], select: str, baseline: str
) -> list[RuleOverProblems]:
    """Return what every rule and control does over the panels that can be compared."""
    panels = set(compared_panels(swept, select))
    fresh = _errors(answers, select)
    bases = {panel: of for (panel, rule), of in fresh.items() if rule == baseline}
    bases = {panel: of for panel, of in bases.items() if panel in panels}
    learned = [row for row in swept if row.panel in panels and not row.cell.control]
    return [
        _over_problems(rule, bases, fresh, learned, select)
        for rule in dict.fromkeys(row.cell.rule for row in swept)
    ]


def _over_problems(
    rule: str,
    bases: dict[StudyPanel, np.ndarray],
    fresh: dict[tuple[StudyPanel, str], np.ndarray],
    learned: Sequence[Row],
    select: str,
) -> RuleOverProblems:
    base = list(bases.values())
    own = [fresh.get((panel, rule), np.full(len(to), math.inf)) for panel, to in bases.items()]
    with np.errstate(invalid="ignore"):
        ratios = np.array([median_of_all(of) / median_of_all(to) for of, to in zip(own, base)])
    # Of a control whose features span the values: rounding, not an error.
    ratios[ratios < ROUNDING_OF_BEST] = 0.0
    nothing = Interval(*(np.array(math.nan) for _ in range(3)))
    scores: dict[StudyPanel, list[float]] = {}
    for row in learned:
        if row.cell.rule == rule:
            scores.setdefault(row.panel, []).append(row.score(select))
    return RuleOverProblems(
        rule=rule,
        ratios=ratios,
        ratio=ratio_over_problems(ratios),
        improvement=improvement_interval(own, base) if own else nothing,
        scaled=[of / median_of_all(to) for of, to in zip(own, base) if median_of_all(to) > 0],
        near=float(np.mean([share_near_best(of) for of in scores.values()]))
        if scores
        else math.nan,
        sensitivity=_sensitivity(learned, rule, select) if scores else math.nan,
    )


def _errors(
    answers: Sequence[Report], select: str
) -> dict[tuple[StudyPanel, str], Float[np.ndarray, " run"]]:
    """Return the errors of the rules' best configurations on fresh runs; diverged is infinite."""
    found = {}
    for report in answers:
        if report.of_rule:
            values = report.fresh.values[key_of(select)]
            lost = np.where(np.isnan(values), math.inf, values)
            found[report.fresh.panel, report.fresh.cell.rule] = lost
    return found


def _sensitivity(swept: Sequence[Row], rule: str, select: str) -> float:
    """Return the rule's hyperparameter sensitivity; NaN where its settings differ by panel."""
    scores: dict[str, dict[str, float]] = {}
    for row in swept:
        setting = f"{row.cell.rule} {row.configuration}"
        scores.setdefault(" ".join(row.panel), {})[setting] = row.score(select)
    own = {f"{row.cell.rule} {row.configuration}" for row in swept if row.cell.rule == rule}
    known = normalised_scores(scores)
    if not all(own <= of.keys() for of in known.values()):
        return math.nan
    ordered = sorted(own)
    table = {panel: {key: of[key] for key in ordered} for panel, of in known.items()}
    return hyperparameter_sensitivity(table)


def measures_markdown(
    several: Sequence[RuleOverProblems], select: str, baseline: str, left_out: int
) -> str:
    """Return what every rule does over the panels of a study, as Markdown.

    left_out: how many panels could not be compared
    """
    heads = ["rule", f"ratio to {baseline}", "improvement"]
    heads += [f"≤ {threshold:g}" for threshold in THRESHOLDS]
    heads += [f"within {NEAR:g} of its best", "sensitivity"]
    lines = [[each.rule, *_of_fresh(each), *_of_grid(each)] for each in several]
    panels = max((len(each.ratios) for each in several), default=0)
    rounding = "nothing survives, or the best error is rounding"
    exact = f" ({left_out} left out: {rounding})" if left_out else ""
    few = "" if panels >= ENOUGH_PROBLEMS else f"; {ENOUGH_PROBLEMS} are needed for a claim"
    return (
        f"{markdown_table([heads, *lines])}\n\n"
        f"{title_of(select)}, over {panels} panels{exact}{few}. Each rule's best configuration on "
        "fresh runs; a diverged run is infinitely bad. *Ratio*: geometric mean over panels of the "
        "ratio of medians over all runs, its 95 % interval over panels as a sample of their kind; "
        "left out where half of the runs diverged or the median is rounding. "
        "*Improvement*: how often a run has a smaller error than one of the baseline's, with its "
        "interval over runs. *≤ x*: share of the runs whose error is at most x times the "
        "baseline's median. On the runs of the sweep: the share of the rule's configurations "
        f"within {NEAR:g} of its best, and the hyperparameter sensitivity (Adkins et al. 2024), "
        "what tuning for each panel gains over one setting for all, in scores from 0 to 1.\n"
    )


def _of_fresh(each: RuleOverProblems) -> list[str]:
    if not len(each.ratios):
        return ["–"] * (2 + len(THRESHOLDS))
    lost = int((~np.isfinite(each.ratios) | (each.ratios <= 0)).sum())
    ratio = ratio_text(each.ratio) + (f" ({lost} left out)" if lost else "")
    profile = shares_within(each.scaled, np.array(THRESHOLDS))
    return [ratio, ratio_text(each.improvement), *(f"{part:.0%}" for part in profile)]


def _of_grid(each: RuleOverProblems) -> list[str]:
    near = "–" if math.isnan(each.near) else f"{each.near:.0%}"
    return [near, "–" if math.isnan(each.sensitivity) else f"{each.sensitivity:.2f}"]
