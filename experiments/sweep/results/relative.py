"""Every rule's best relative to the baseline's, in pairs of fresh runs: a table and a figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import Interval, mean_interval
from experiments.runs.results.style import rule_styles, save_figure, styled
from experiments.sweep.results.measures import median_of_all
from experiments.sweep.results.panels import WIDTH, panel_title, place_legend
from experiments.sweep.results.rows import Report, key_of, panels_of
from experiments.sweep.results.tables import markdown_table, ratio_text, title_of

# Inches of a bar, and of the bars of a line of them.
BAR = 0.28
LONGEST_LINE = 11.0
# Beyond so many times the baseline's, a bar leaves the figure.
SHOWN_RATIO = 3.0


def ratio_of_pairs(own: Float[np.ndarray, " run"], base: Float[np.ndarray, " run"]) -> Interval:
    """Return the ratio of the means over pairs of runs and its 95 % interval.

    The interval is that of errors (`mean_interval` on the logarithm) for the linearised ratio of
    each pair, q + (own − q·base)/mean(base) with the ratio of the means q. A pair counts where both
    values are finite.
    """
    pairs = np.isfinite(own) & np.isfinite(base)
    first, second = own[pairs], base[pairs]
    if not first.size:
        return Interval(*(np.array(math.nan) for _ in range(3)))
    ratio = first.mean() / second.mean()
    return mean_interval(ratio + (first - ratio * second) / second.mean(), logarithm=True)


def relative_to_baseline(report: Report, select: str) -> Interval:
    """Return a report's mean over the baseline's, over pairs that survive."""
    own = report.fresh.values[key_of(select)]
    if report.baseline is None:
        return ratio_of_pairs(np.zeros(0), np.zeros(0))
    return ratio_of_pairs(own, report.baseline.values[key_of(select)])


def relative_markdown(reports: Sequence[Report], select: str, baseline: str) -> str:
    """Return every rule's best over the baseline's as a Markdown table, a line a panel."""
    best = [report for report in reports if report.of_rule]
    rules = list(dict.fromkeys(report.fresh.cell.rule for report in best))
    cells: dict[str, dict[str, str]] = {}
    for report in best:
        shown = ratio_text(relative_to_baseline(report, select))
        shown = "1" if report.of_baseline else shown
        lost = int(report.fresh.diverged.sum())
        star = f" *{lost} of {len(report.fresh.diverged)}{_over_all(report, select)}"
        panel = ", ".join(report.fresh.panel)
        cells.setdefault(panel, {})[report.fresh.cell.rule] = shown + (star if lost else "")
    lines = [[panel, *(of.get(rule, "–") for rule in rules)] for panel, of in cells.items()]
    return (
        f"{markdown_table([['problem', *rules], *lines])}\n\n"
        f"{title_of(select)}, relative to {baseline}'s: ratio of the means over pairs of fresh "
        "runs that survive, with its 95 % interval; – no pair survives. * runs that diverged: the "
        "ratio over surviving pairs flatters a rule that loses the hard runs, so the ratio of the "
        "medians over all runs follows, where a diverged run is infinitely bad.\n"
    )


def _over_all(report: Report, select: str) -> str:
    """Return the ratio of the medians over all runs, as what follows an asterisk."""
    if report.baseline is None or report.of_baseline:
        return ""
    both = (each.values[key_of(select)] for each in (report.fresh, report.baseline))
    own, base = map(median_of_all, both)
    if not math.isfinite(base):
        return ""
    return f", {own / base:.2f} of all" if math.isfinite(own) else ", ∞ of all"


@styled
def relative_figure(
    path: Path, reports: Sequence[Report], select: str, vector: str | None = None
) -> None:
    """Draw what is selected by relative to the baseline's, on fresh runs, and write the file.

    A bar a rule and panel: the ratio of means over pairs of runs that survive, with its 95 %
    interval. A rule of which runs diverged has a star.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    best = [report for report in reports if report.of_rule and report.baseline is not None]
    rules = list(dict.fromkeys(report.fresh.cell.rule for report in best))
    styles = rule_styles(rules)
    panels = panels_of(report.fresh for report in best)
    a_line = max(1, int(LONGEST_LINE / (BAR * len(rules)))) if rules else 1
    lines = -(-len(panels) // a_line) or 1
    length = BAR * len(rules) * min(a_line, len(panels)) + 1.6
    figure = Figure((max(WIDTH, length), 2.6 * lines + 0.8), layout="constrained")
    all_axes = figure.subplots(lines, 1, squeeze=False, sharey=True).ravel().tolist()
    most = 1.0
    for report in best:
        ratio, low, high = map(float, relative_to_baseline(report, select))
        ends = [[ratio - low], [high - ratio]]
        line, column = divmod(panels.index(report.fresh.panel), a_line)
        place = column + (rules.index(report.fresh.cell.rule) + 0.5) / (len(rules) + 1)
        look = _bar(styles[report.fresh.cell.rule])
        axes = all_axes[line]
        axes.bar(place, ratio, 0.9 / (len(rules) + 1), yerr=ends, ecolor="#222222", **look)
        top = min(high if math.isfinite(high) else ratio, SHOWN_RATIO)
        if report.fresh.diverged.any():
            axes.text(place, top, "*", ha="center", va="bottom")
            top += 0.1
        most = max(most, top)
    names = [panel_title(panel, [report.fresh for report in best]) for panel in panels]
    base_rule = best[0].baseline.cell.rule if best and best[0].baseline else ""
    for line, axes in enumerate(all_axes):
        axes.axhline(1.0, color="#555555", linewidth=0.8)
        axes.set_ylim(0, 1.08 * most)
        axes.set_xlim(-0.1, min(a_line, len(panels)))
        shown = names[line * a_line : (line + 1) * a_line]
        middle = 0.5 * len(rules) / (len(rules) + 1)
        axes.set_xticks([n + middle for n in range(len(shown))], shown)
        axes.set_ylabel(f"{title_of(select)},\nrelative to {base_rule}'s")
    handles = [Patch(label=rule, **_bar(styles[rule])) for rule in rules]
    if handles:
        place_legend(figure, handles)
    save_figure(figure, path, vector)


def _bar(style: Any) -> dict[str, Any]:
    """Return how a rule's bar looks: hatched where its line would be broken."""
    return {
        "facecolor": style.colour,
        "edgecolor": "white",
        "hatch": "" if style.line == "-" else "//",
    }
