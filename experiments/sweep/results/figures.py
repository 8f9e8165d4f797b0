"""Figures of a study: sensitivity to the step size, a map over step and ratio, fresh curves."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs.results.figures import BAND_RESAMPLES
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.style import logarithmic, rule_styles, save_figure, styled
from experiments.sweep.results.panels import (
    panel_grid,
    panel_title,
    rule_legend,
)
from experiments.sweep.results.rows import (
    Row,
    key_of,
    panels_of,
    selected_by_rule,
)
from experiments.sweep.results.tables import metric_of, step_text, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond so many times the best mean of a panel, a curve leaves it.
SHOWN = 30.0


def _along_the_best(rows: Sequence[Row], rule: str, select: str) -> list[Row]:
    """Return a rule's rows over the steps, at the ratios that were selected for it."""
    own = [row for row in rows if row.cell.rule == rule]
    chosen = selected_by_rule(own, select)
    if not chosen:
        return sorted(own, key=lambda row: row.swept)
    at = chosen[0].configuration

    def same(one: float, other: float) -> bool:
        return one == other or (math.isnan(one) and math.isnan(other))

    kept = [
        row
        for row in own
        if same(row.configuration.ratio, at.ratio)
        and same(row.configuration.auxiliary_ratio, at.auxiliary_ratio)
    ]
    return sorted(kept, key=lambda row: row.swept)


def _draw_sensitivity(axes: "Axes", rows: Sequence[Row], select: str, styles: Any) -> bool:
    """Draw a panel, a line a rule; return whether any run of what is shown diverged."""
    lost_any = False
    best = math.inf
    for rule, style in styles.items():
        line = _along_the_best(rows, rule, select)
        if not line:
            continue
        steps = np.array([row.swept for row in line])
        values = np.stack([row.values[key_of(select)] for row in line])
        interval = mean_interval(values, BAND_RESAMPLES, logarithm=True)
        shares = np.array([row.diverged.mean() for row in line])
        if line[0].cell.control:
            # A control has no body step: its best is a line across.
            level = float(np.nanmin(interval.mean)) if np.isfinite(interval.mean).any() else np.nan
            axes.axhline(level, color=style.colour, linestyle=style.line)
            continue
        axes.plot(steps, interval.mean, color=style.colour, linestyle=style.line)
        axes.fill_between(
            steps, interval.low, interval.high, color=style.colour, alpha=0.18, linewidth=0
        )
        some = (shares > 0) & (shares < 1)
        axes.plot(steps[some], interval.mean[some], "o", color=style.colour, fillstyle="none")
        # On a line near the upper edge, one a rule, whatever the scale.
        height = np.full((shares == 1).sum(), 0.97 - 0.04 * list(styles).index(rule))
        on_the_edge = axes.get_xaxis_transform()
        axes.plot(steps[shares == 1], height, "x", color=style.colour, transform=on_the_edge)
        lost_any |= bool((shares > 0).any())
        finite = interval.mean[np.isfinite(interval.mean)]
        best = min(best, float(finite.min()) if finite.size else math.inf)
    axes.set_xscale("log", base=2)
    if math.isfinite(best) and best > 0:
        low, high = axes.dataLim.intervaly
        top = min(high, SHOWN * best)
        logarithmic(axes, max(low, best / SHOWN), top)
        axes.set_ylim(top=min(axes.get_ylim()[1], SHOWN * best))
    return lost_any


@styled
def sensitivity_figure(
    path: Path, rows: Sequence[Row], select: str, vector: str | None = None
) -> None:
    """Draw what is selected by over the step size, a panel a problem, and write the file.

    Each rule at the ratios that suit it best; means over the runs that survive, with 95 %
    intervals. Points of which some runs diverged are hollow, where all did there is a cross above.
    """
    panels = panels_of(rows)
    rules = list(dict.fromkeys(row.cell.rule for row in rows))
    figure, axes = panel_grid(len(panels))
    lost = False
    for panel, one in zip(panels, axes):
        inside = [row for row in rows if row.panel == panel]
        lost |= _draw_sensitivity(one, inside, select, rule_styles(rules))
        one.set_title(panel_title(panel, rows))
        learns = any(row.configuration.body_step for row in inside)
        one.set_xlabel("body step α" if learns else "head step β")
        one.set_ylabel(title_of(select))
    rule_legend(figure, rules, lost)
    save_figure(figure, path, vector)


def has_map(rows: Sequence[Row]) -> bool:
    """Return whether there are ratios to draw a map over."""
    return len({row.configuration.ratio for row in rows if row.configuration.body_step}) > 1


def _table(rows: Sequence[Row], select: str) -> tuple[np.ndarray, np.ndarray, Any, Any]:
    """Return means and shares of diverged runs [ratio, step], at the best auxiliary ratio."""
    steps = sorted({row.swept for row in rows})
    ratios = sorted({row.configuration.ratio for row in rows})
    means = np.full((len(ratios), len(steps)), math.nan)
    lost = np.full_like(means, math.nan)
    for (i, ratio), (j, step) in itertools.product(enumerate(ratios), enumerate(steps)):
        here = [row for row in rows if row.swept == step and row.configuration.ratio == ratio]
        if here:
            row = min(here, key=lambda each: each.score(select))
            values = row.values[key_of(select)]
            finite = values[np.isfinite(values)]
            means[i, j] = finite.mean() if finite.size else math.nan
            lost[i, j] = row.diverged.mean()
    return means, lost, steps, ratios


@styled
def map_figure(path: Path, rows: Sequence[Row], select: str, vector: str | None = None) -> None:
    """Draw what is selected by over step and ratio, a panel a rule of one problem, and write it.

    Numbers are percentages of runs that diverged, where any did; grey where all did.
    """
    from matplotlib.colors import LogNorm

    rules = list(dict.fromkeys(row.cell.rule for row in rows if row.configuration.body_step))
    tables = [_table([row for row in rows if row.cell.rule == rule], select) for rule in rules]
    every = np.concatenate([means[np.isfinite(means) & (means > 0)] for means, *_ in tables])
    figure, axes = panel_grid(len(rules))
    low = float(every.min()) if every.size else 1.0
    norm = LogNorm(low, min(float(every.max()) if every.size else 2.0, SHOWN * low))
    for rule, one, (means, lost, steps, ratios) in zip(rules, axes, tables):
        one.set_facecolor("#cccccc")
        image = one.pcolormesh(np.ma.masked_invalid(means), norm=norm, cmap="viridis_r")
        for (i, j), share in np.ndenumerate(lost):
            if share > 0:
                colour = "white" if np.isfinite(means[i, j]) else "black"
                one.text(
                    j + 0.5, i + 0.5, f"{100 * share:.0f}", ha="center", va="center",
                    fontsize=6, color=colour,
                )  # fmt: skip
        every_step = range(0, len(steps), max(1, len(steps) // 6))
        one.set_xticks([j + 0.5 for j in every_step], [step_text(steps[j]) for j in every_step])
        one.set_yticks(np.arange(len(ratios)) + 0.5, [step_text(ratio) for ratio in ratios])
        one.set_title(rule)
        one.set_xlabel("body step α")
        one.set_ylabel("β/α")
    problem, sampling = rows[0].panel
    figure.suptitle(f"{problem}, {sampling}")
    if rules:
        figure.colorbar(image, ax=axes, label=title_of(select), extend="max")
    save_figure(figure, path, vector)


@styled
def curves_figure(path: Path, rows: Sequence[Row], error: str, vector: str | None = None) -> None:
    """Draw an error of the selected configurations over their fresh runs, and write the file."""
    panels = panels_of(rows)
    rules = list(dict.fromkeys(row.cell.rule for row in rows))
    styles = rule_styles(rules)
    figure, axes = panel_grid(len(panels))
    for panel, one in zip(panels, axes):
        for row in rows:
            if row.panel != panel or error not in row.curves:
                continue
            interval = mean_interval(row.curves[error], BAND_RESAMPLES, logarithm=True)
            style = styles[row.cell.rule]
            one.plot(row.steps, interval.mean, color=style.colour, linestyle=style.line)
            one.fill_between(
                row.steps, interval.low, interval.high, color=style.colour, alpha=0.18, linewidth=0
            )
        logarithmic(one, *one.dataLim.intervaly)
        one.set_title(panel_title(panel, rows))
        one.set_xlabel("updates")
        metric = metric_of(f"final_{error}")
        one.set_ylabel(f"{metric.symbol} ({metric.unit})")
    rule_legend(figure, rules, False)
    save_figure(figure, path, vector)
