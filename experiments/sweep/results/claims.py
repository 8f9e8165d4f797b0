"""The tables that say how far a study's answers carry: selections again, and rules over panels."""

import math
from collections.abc import Sequence

import numpy as np

from experiments.sweep.results.measures import (
    ENOUGH_PROBLEMS,
    NEAR,
    hyperparameter_sensitivity,
    improvement_interval,
    median_of_all,
    normalised_scores,
    ratio_over_problems,
    share_near_best,
    shares_within,
)
from experiments.sweep.results.reselection import (
    RESELECTION_HEADS,
    reselection_lines,
    reselections,
    tries,
)
from experiments.sweep.results.rows import Report, Row, key_of, panels_of
from experiments.sweep.results.tables import markdown_table, title_of

# Multiples of the baseline's median error that profiles are told at.
THRESHOLDS = (0.5, 1.0, 1.5, 2.0)


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


def measures_markdown(
    swept: Sequence[Row], answers: Sequence[Report], select: str, baseline: str
) -> str:
    """Return what every rule does over the panels of a study, as Markdown."""
    panels = panels_of(swept)
    rules = list(dict.fromkeys(row.cell.rule for row in swept))
    fresh = _errors(answers, select)
    bases = {panel: fresh[panel, baseline] for panel in panels if (panel, baseline) in fresh}
    heads = ["rule", f"ratio to {baseline}", "improvement"]
    heads += [f"≤ {threshold:g}" for threshold in THRESHOLDS]
    heads += [f"within {NEAR:g} of its best", "sensitivity"]
    lines = []
    for rule in rules:
        own = [fresh.get((panel, rule), np.full(len(to), math.inf)) for panel, to in bases.items()]
        cells = ["–"] * (2 + len(THRESHOLDS))
        if own:
            cells = _of_fresh(own, list(bases.values()))
        near = [
            share_near_best(scores)
            for panel in panels
            if (scores := [row.score(select) for row in swept if _is_of(row, panel, rule)])
        ]
        lines.append([rule, *cells, f"{np.mean(near):.0%}", _sensitivity(swept, rule, select)])
    few = "" if len(bases) >= ENOUGH_PROBLEMS else f"; {ENOUGH_PROBLEMS} are needed for a claim"
    return (
        f"{markdown_table([heads, *lines])}\n\n"
        f"{title_of(select)}, over {len(bases)} panels{few}. Each rule's best configuration on "
        "fresh runs; a diverged run is infinitely bad. *Ratio*: geometric mean over panels of the "
        "ratio of medians over all runs, its 95 % interval over panels as a sample of their kind. "
        "*Improvement*: how often a run has a smaller error than one of the baseline's, with its "
        "interval over runs. *≤ x*: share of the runs whose error is at most x times the "
        "baseline's median. On the runs of the sweep: the share of the rule's configurations "
        f"within {NEAR:g} of its best, and the hyperparameter sensitivity (Adkins et al. 2024), "
        "what tuning for each panel gains over one setting for all, in scores from 0 to 1.\n"
    )


def _is_of(row: Row, panel: tuple[str, str], rule: str) -> bool:
    return row.panel == panel and row.cell.rule == rule


def _errors(
    answers: Sequence[Report], select: str
) -> dict[tuple[tuple[str, str], str], np.ndarray]:
    """Return the errors of the rules' best configurations on fresh runs; diverged is infinite."""
    found = {}
    for report in answers:
        if report.of_rule:
            values = report.fresh.values[key_of(select)]
            lost = np.where(np.isnan(values), math.inf, values)
            found[report.fresh.panel, report.fresh.cell.rule] = lost
    return found


def _of_fresh(own: list[np.ndarray], base: list[np.ndarray]) -> list[str]:
    with np.errstate(invalid="ignore"):
        ratios = np.array([median_of_all(of) / median_of_all(to) for of, to in zip(own, base)])
    mean, low, high = map(float, ratio_over_problems(ratios))
    left_out = int((~np.isfinite(ratios) | (ratios <= 0)).sum())
    ratio = f"{mean:.2f}" if math.isfinite(mean) else "–"
    if math.isfinite(low):
        ratio += f" [{low:.2f}, {high:.2f}]"
    if left_out:
        ratio += f" ({left_out} diverged)"
    share, least, most = map(float, improvement_interval(own, base))
    scaled = [of / median_of_all(to) for of, to in zip(own, base) if median_of_all(to) > 0]
    profile = shares_within(scaled, np.array(THRESHOLDS))
    return [ratio, f"{share:.2f} [{least:.2f}, {most:.2f}]", *(f"{part:.0%}" for part in profile)]


def _sensitivity(swept: Sequence[Row], rule: str, select: str) -> str:
    """Return the rule's hyperparameter sensitivity; – where its settings differ by panel."""
    scores: dict[str, dict[str, float]] = {}
    for row in swept:
        setting = f"{row.cell.rule} {row.configuration}"
        scores.setdefault(" ".join(row.panel), {})[setting] = row.score(select)
    own = {f"{row.cell.rule} {row.configuration}" for row in swept if row.cell.rule == rule}
    known = normalised_scores(scores)
    if not all(own <= of.keys() for of in known.values()):
        return "–"
    ordered = sorted(own)
    table = {panel: {key: of[key] for key in ordered} for panel, of in known.items()}
    return f"{hyperparameter_sensitivity(table):.2f}"
