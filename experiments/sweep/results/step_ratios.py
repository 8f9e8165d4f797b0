"""How a rule's error depends on β/α or η/β, over all panels: a table and a figure."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.runs.results.intervals import Interval
from experiments.runs.results.style import GREY, rule_styles, save_figure, styled
from experiments.sweep.results.measures import median_of_all, ratio_over_problems
from experiments.sweep.results.overall import StudyPanel
from experiments.sweep.results.rows import Report, key_of
from experiments.sweep.results.tables import markdown_table, ratio_text, title_of

# What the ratios of a configuration are called.
NAMES = {"ratio": "β/α", "auxiliary_ratio": "η/β"}
# What a vertical axis names, within its limits.
RATIO_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5)
# {rule: {ratio: error relative to that at the smallest ratio}}
StepRatios = dict[str, dict[float, Interval]]


def step_ratios(
    answers: Sequence[Report], panels: Sequence[StudyPanel], select: str, by: str = "ratio"
) -> StepRatios:
    """Return every rule's error at each finite ratio over that at the smallest, over panels.

    answers: the best configurations for each ratio, see `rows.selected`
    by:      which ratio, a key of `NAMES`

    Medians over all fresh runs, at the steps selected for that ratio; geometric means with 95 %
    intervals over the panels where both survive.
    """
    medians: dict[str, dict[float, dict[StudyPanel, float]]] = {}
    for report in answers:
        row, ratio = report.fresh, getattr(report.fresh.configuration, by)
        if not row.cell.control and math.isfinite(ratio) and row.panel in panels:
            of_ratio = medians.setdefault(row.cell.rule, {}).setdefault(ratio, {})
            of_ratio[row.panel] = median_of_all(row.values[key_of(select)])
    found: StepRatios = {}
    for rule, by_ratio in medians.items():
        if len(by_ratio) > 1:
            base = by_ratio[min(by_ratio)]
            found[rule] = {
                ratio: ratio_over_problems(
                    np.array([of[panel] / base[panel] for panel in of if panel in base])
                )
                for ratio, of in sorted(by_ratio.items())
            }
    return found


def step_ratios_markdown(found: StepRatios, select: str, by: str = "ratio") -> str:
    """Return a table with a line a rule and a column a ratio."""
    ratios = sorted({ratio for of in found.values() for ratio in of})
    lines = [
        [rule, *(ratio_text(of[ratio]) if ratio in of else "–" for ratio in ratios)]
        for rule, of in found.items()
    ]
    return (
        f"{markdown_table([['rule', *(f'{ratio:g}' for ratio in ratios)], *lines])}\n\n"
        f"{title_of(select)} at each {NAMES[by]}, relative to the smallest ratio: each with "
        "its own best other steps, "
        "medians over all fresh runs, geometric means over panels with 95 % intervals over panels "
        "as a sample of their kind. Panels of which half of the runs diverged are left out.\n"
    )


@styled
def step_ratios_figure(
    path: Path, found: StepRatios, select: str, vector: str | None = None, by: str = "ratio"
) -> None:
    """Draw the table of `step_ratios_markdown`, a line a rule, and write the file."""
    from matplotlib.figure import Figure

    figure = Figure((6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    styles = rule_styles(list(found))
    for place, (rule, of) in enumerate(found.items()):
        # Next to one another, so that intervals do not cover each other.
        beside = 1.04 ** (place - len(found) / 2)
        mean, low, high = np.array([[*map(float, each)] for each in of.values()]).T
        ratios = np.array(list(of)) * beside
        style = styles[rule]
        axes.plot(ratios, mean, color=style.colour, linestyle=style.line, label=rule)
        axes.vlines(ratios, low, high, color=style.colour, linewidth=1)
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    every = sorted({ratio for of in found.values() for ratio in of})
    axes.set_xticks(every, [f"{ratio:g}" for ratio in every])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(low, high)
    axes.set_xlabel(NAMES[by])
    axes.set_ylabel(f"{title_of(select)},\nrelative to that at the smallest {NAMES[by]}")
    if found:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path, vector)
