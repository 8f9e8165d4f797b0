"""The figure of rules over all problems: ratios with their intervals, and performance profiles."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import Interval
from experiments.runs.results.style import GREY, rule_styles, save_figure, styled
from experiments.sweep.results.measures import shares_within
from experiments.sweep.results.over_problems import RuleOverProblems
from experiments.sweep.results.tables import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The multiples of the baseline's median error between which profiles are drawn, and ratios beyond
# which a point stands at the edge.
PROFILE = (0.5, 4.0)
SHOWN_RATIOS = (0.2, 8.0)
TICKS = (0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4, 5.6, 8)


def draw_ratios(
    axes: "Axes",
    lines: Mapping[str, tuple[Float[np.ndarray, " panel"], Interval]],
    colours: Mapping[str, str],
) -> None:
    """Draw a line a name: its ratios as small points, their mean and its interval over them.

    A ratio that is not finite is a cross at the right edge, a ratio of 0 an arrow at the left one.
    """
    at_left_edge = axes.get_yaxis_transform()
    for place, (name, (ratios, interval)) in enumerate(lines.items()):
        known = ratios[np.isfinite(ratios) & (ratios > 0)].clip(*SHOWN_RATIOS)
        spread = np.linspace(-0.25, 0.25, len(known)) if len(known) > 1 else np.zeros(len(known))
        colour = colours[name]
        axes.plot(known, place + spread, "o", markersize=2.5, alpha=0.45, color=colour)
        if lost := int((~np.isfinite(ratios)).sum()):
            axes.plot([SHOWN_RATIOS[1]] * lost, [place] * lost, "x", markersize=5, color=colour)
        if (ratios == 0).any():
            axes.plot(0.02, place, "<", markersize=5, color=colour, transform=at_left_edge)
        mean, low, high = map(float, interval)
        axes.plot(mean, place, "D", markersize=5, color=colour, zorder=3)
        if math.isfinite(low):
            ends = np.array([low, high]).clip(*SHOWN_RATIOS)
            axes.plot(ends, [place, place], linewidth=2.2, color=colour, zorder=3)
    axes.axvline(1.0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    _name_ticks(axes)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.set_ylim(len(lines) - 0.5, -0.5)


def _name_ticks(axes: "Axes") -> None:
    """Name the ticks within the limits of a logarithmic axis."""
    low, high = axes.get_xlim()
    # Every second one where there is no room for all.
    several = TICKS if high / low < 8 else TICKS[::2]
    shown = [tick for tick in several if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.set_xlim(low, high)


@styled
def measures_figure(
    path: Path,
    several: Sequence[RuleOverProblems],
    select: str,
    baseline: str,
    vector: str | None = None,
) -> None:
    """Draw ratios to the baseline, a line a rule, and performance profiles, and write the file.

    Small points are problems, the large one their geometric mean with its interval over problems;
    a problem where half of the runs diverged is a cross at the right edge, and an arrow at the left
    edge is for errors that are only rounding.
    """
    from matplotlib.figure import Figure

    figure = Figure((9.0, 0.27 * len(several) + 1.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = rule_styles([each.rule for each in several])
    lines = {each.rule: (each.ratios, each.ratio) for each in several}
    draw_ratios(left, lines, {rule: style.colour for rule, style in styles.items()})
    left.set_xlabel(f"{title_of(select)}, relative to {baseline}'s")
    thresholds = np.geomspace(*PROFILE, 200)
    for each in several:
        if each.scaled:
            style = styles[each.rule]
            shares = shares_within(each.scaled, thresholds)
            right.plot(
                thresholds, shares, color=style.colour, linestyle=style.line, label=each.rule
            )
    right.set_xscale("log")
    _name_ticks(right)
    right.set_ylim(0, 1.02)
    right.set_xlabel(f"multiple x of the median error of {baseline}")
    right.set_ylabel("share of runs with at most x")
    if any(each.scaled for each in several):
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path, vector)
