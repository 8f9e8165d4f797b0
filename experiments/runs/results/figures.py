"""Figures of runs: means over the surviving runs with their 95 % intervals, one colour a rule."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.runs.results.history import History
from experiments.runs.results.intervals import Interval, mean_interval
from experiments.runs.results.panels import Panel, panel_rows
from experiments.runs.results.statistics import is_error
from experiments.runs.results.style import RuleStyle, logarithmic, rule_styles, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND_RESAMPLES = 2_000
# A band of more points than this cannot be seen, only waited for.
BAND_POINTS = 400
# A ratio from the smallest to the largest mean beyond which a panel is logarithmic.
LOGARITHMIC_BEYOND = 20.0


def _label(rule: str, history: History) -> str:
    diverged = int(history.diverged.sum())
    if not diverged:
        return rule
    if diverged == history.runs:
        return f"{rule} (all {history.runs} diverged)"
    return f"{rule} ({diverged} of {history.runs} diverged)"


def _thinned(history: History, metric: str) -> np.ndarray:
    """Return which measurements to draw a band at: at most BAND_POINTS, the ends among them.

    A metric that is taken at a few measurements only is drawn from one of these to the next.
    """
    # NaN where all had diverged is no gap: the curve ends there.
    lost = (history.diverged_steps <= history.steps[:, None]).all(axis=1)
    taken = np.flatnonzero(np.isfinite(history.values(metric)).any(axis=1) | lost)
    number = min(len(taken), BAND_POINTS)
    return taken[np.unique(np.linspace(0, len(taken) - 1, number).round().astype(int))]


def _choose_scale(axes: "Axes", panel: Panel, curves: Sequence[np.ndarray]) -> None:
    drawn = np.concatenate(curves)
    drawn = drawn[np.isfinite(drawn)]
    if panel.linear or not drawn.size or drawn.min() <= 0:
        return
    if drawn.max() > LOGARITHMIC_BEYOND * drawn.min():
        logarithmic(axes, drawn.min(), drawn.max())


def _drawn_values(history: History, metric: str) -> np.ndarray:
    """Return a metric of the runs that survive to the end, or of all where none does.

    A run on its way to infinity would hide everything else; its end is marked instead.
    """
    values = history.values(metric)
    return values if history.diverged.all() else values[:, ~history.diverged]


def _draw_curve(axes: "Axes", steps: np.ndarray, interval: Interval, style: RuleStyle) -> None:
    axes.plot(steps, interval.mean, color=style.colour, linestyle=style.line)
    axes.fill_between(
        steps, interval.low, interval.high, color=style.colour, alpha=0.16, linewidth=0
    )
    present = np.flatnonzero(np.isfinite(interval.mean))
    if present.size and present[-1] < len(steps) - 1:
        # The last survivor is gone: the curve ends here, and not because it is done.
        last = present[-1]
        axes.plot(steps[last], interval.mean[last], "x", color=style.colour, markersize=7)


def _draw_point(axes: "Axes", position: float, interval: Interval, style: RuleStyle) -> None:
    axes.plot([position] * 2, [interval.low[0], interval.high[0]], color=style.colour, alpha=0.5)
    axes.plot(position, interval.mean[0], "o", color=style.colour, markersize=5)


def _mark_divergence(axes: "Axes", history: History, style: RuleStyle) -> None:
    steps = history.diverged_steps
    marks = np.unique(steps[np.isfinite(steps)])
    if not marks.size:
        # An empty line has a box of no size, which upsets the layout.
        return
    # At the upper edge, whatever the panel's scale.
    axes.plot(
        marks,
        np.full(marks.size, 1.0),
        linestyle="",
        marker="v",
        markersize=4,
        color=style.colour,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _draw_panel(
    axes: "Axes",
    panel: Panel,
    histories: Mapping[str, History],
    styles: Mapping[str, RuleStyle],
    reference: tuple[float, str] | None,
) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    curves: list[np.ndarray] = []
    single = all(len(history) <= 1 for history in histories.values())
    for index, (rule, history) in enumerate(histories.items()):
        if panel.metric not in history.names or not len(history):
            continue
        chosen = _thinned(history, panel.metric)
        if not chosen.size:
            continue
        steps = history.steps[chosen]
        interval = mean_interval(
            _drawn_values(history, panel.metric)[chosen],
            BAND_RESAMPLES,
            logarithm=is_error(panel.metric),
        )
        curves.append(interval.mean)
        if single:
            _draw_point(axes, float(index), interval, styles[rule])
            continue
        _draw_curve(axes, steps, interval, styles[rule])
        _mark_divergence(axes, history, styles[rule])
        if panel.dashed and panel.dashed in history.names:
            size = mean_interval(_drawn_values(history, panel.dashed)[chosen], BAND_RESAMPLES).mean
            axes.plot(steps, size, color=styles[rule].colour, linestyle="--", linewidth=1.0)
            curves.append(size)
    if reference is not None and np.isfinite(reference[0]):
        axes.axhline(reference[0], color="black", linestyle=":", linewidth=1.2)
        curves.append(np.array([reference[0]]))
    if not any(np.isfinite(curve).any() for curve in curves):
        axes.text(0.5, 0.5, "nothing to show", ha="center", transform=axes.transAxes, color="0.4")
        axes.set_yticks([])
    else:
        _choose_scale(axes, panel, curves)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.label)
    if single:
        axes.set_xticks([])
        axes.set_xlim(-0.5, len(histories) - 0.5)
        steps = np.unique([history.steps[0] for history in histories.values() if len(history)])
        axes.set_xlabel(f"after {' or '.join(map(str, steps))} updates")
    else:
        axes.set_xlabel("updates")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.02)
    axes.grid(True)


@styled
def draw_histories(
    histories: Mapping[str, History],
    title: str,
    metrics: Sequence[str | Panel] | None = None,
    references: Mapping[str, tuple[float, str]] | None = None,
) -> "Figure":
    """Return the figure that `evaluation_figure` writes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    references = references or {}
    rows = panel_rows(histories, metrics, 3)
    columns = max(len(row) for row in rows)
    size = (4.1 * max(columns, 1.5), 3.0 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    styles = rule_styles(list(histories))
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _draw_panel(axes, panel, histories, styles, references.get(panel.metric))
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, linewidth=2)
        for style in (styles[rule] for rule in histories)
    ]
    labels = [_label(rule, history) for rule, history in histories.items()]
    for name in dict.fromkeys(name for _, name in references.values()):
        handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1.2))
        labels.append(name)
    longest = max((len(label) for label in labels), default=1)
    per_row = max(1, min(len(labels), int(figure.get_figwidth() * 11 / (longest + 8))))
    runs = sorted({history.runs for history in histories.values()})
    note = "one run"
    if runs != [1]:
        note = f"mean of {' or '.join(map(str, runs))} runs, bands: 95 % intervals over runs"
    if any(history.diverged.any() for history in histories.values()):
        note += "; without the runs that diverged (▼ when)"
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=per_row,
        title=note,
    )
    figure.suptitle(title)
    return figure


def evaluation_figure(
    path: Path,
    histories: Mapping[str, History],
    title: str,
    metrics: Sequence[str | Panel] | None = None,
    references: Mapping[str, tuple[float, str]] | None = None,
    vector: str | None = None,
) -> None:
    """Draw errors and tracking errors of several rules over their updates, and write the file.

    histories:   {rule: history}; a rule's colour depends on its name, so order does not matter
    metrics:     the metrics to draw, or panels of one's own; if not given the panels above, of
                 which those are left out that nothing was measured for
    vector:      pdf or svg: the same figure in this format too
    references:  {metric: (value, name)} a dotted line, such as the truth's own standard error

    Lines are means over the runs that survive to the end, bands their 95 % intervals over runs. A
    triangle at the upper edge says when runs were found diverged; where all of a rule's did, its
    line is over those still there, and a cross ends it. The format follows the path's suffix (png,
    pdf, svg). Raises OSError where the file cannot be written; an older figure is then still there.
    """
    figure = draw_histories(histories, title, metrics, references)
    save_figure(figure, path, vector)
