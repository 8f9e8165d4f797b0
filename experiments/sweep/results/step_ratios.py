"""How a rule's error depends on β/α, over all panels of a study: a table and a figure."""

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

# {rule: {β/α: error relative to that at the least β/α}}
StepRatios = dict[str, dict[float, Interval]]


def step_ratios(answers: Sequence[Report], panels: Sequence[StudyPanel], select: str) -> StepRatios:
    """Return every rule's error at each finite β/α over that at the least, over panels.

    Medians over all fresh runs, at the body step selected for that ratio; geometric means with
    95 % intervals over the panels where both survive.
    """
    medians: dict[str, dict[float, dict[StudyPanel, float]]] = {}
    for report in answers:
        row, ratio = report.fresh, report.fresh.configuration.ratio
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


def step_ratios_markdown(found: StepRatios, select: str) -> str:
    """Return a table with a line a rule and a column a ratio β/α."""
    ratios = sorted({ratio for of in found.values() for ratio in of})
    lines = [
        [rule, *(ratio_text(of[ratio]) if ratio in of else "–" for ratio in ratios)]
        for rule, of in found.items()
    ]
    return (
        f"{markdown_table([['rule', *(f'{ratio:g}' for ratio in ratios)], *lines])}\n\n"
        f"{title_of(select)} at each β/α, relative to the least: each with its own best body step, "
        "medians over all fresh runs, geometric means over panels with 95 % intervals over panels "
        "as a sample of their kind. Panels of which half of the runs diverged are left out.\n"
    )


@styled
def step_ratios_figure(
    path: Path, found: StepRatios, select: str, vector: str | None = None
) -> None:
    """Draw the table of `step_ratios_markdown`, a line a rule, and write the file."""
    from matplotlib.figure import Figure

    figure = Figure((6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    styles = rule_styles(list(found))
    for place, (rule, of) in enumerate(found.items()):
        # Beside one another, so that intervals do not cover each other.
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
    axes.set_yticks([0.5, 0.7, 1, 1.5, 2, 3], ["0.5", "0.7", "1", "1.5", "2", "3"])
    axes.set_xlabel("β/α")
    axes.set_ylabel(f"{title_of(select)},\nrelative to that at the least β/α")
    if found:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path, vector)
