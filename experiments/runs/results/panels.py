"""The panels of a figure of histories: which metrics are drawn, and in which rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.runs.results.history import History
from experiments.runs.results.statistics import ROUNDING, is_error
from neural_tdc.metrics.metric import Metric
from neural_tdc.metrics.registry import METRICS, shown_metrics


class Panel(NamedTuple):
    """One panel of a figure.

    metric:        its key in the history
    title, label:  of the panel, and of its axis with the unit
    dashed:        key of a metric that is drawn as a dashed line, if any
    linear:        whether its axis is never logarithmic
    """

    metric: str
    title: str
    label: str
    dashed: str | None = None
    linear: bool = False


def _registered(metric: Metric) -> Panel:
    label = f"{metric.label} ({metric.unit})" if metric.unit else metric.label
    return Panel(metric.key, metric.title, label, metric.dashed, metric.linear)


def _largest(histories: Mapping[str, History], metric: str) -> float:
    """Return the largest finite size of a metric, -1 where there is none."""
    values = [
        history.values(metric).ravel() for history in histories.values() if metric in history.names
    ]
    sizes = np.abs(np.concatenate(values)) if values else np.zeros(0)
    return float(sizes.max(initial=-1.0, where=np.isfinite(sizes)))


def _measured(panels: Sequence[Panel], histories: Mapping[str, History]) -> list[Panel]:
    """Return the panels for which a rule has a finite value, without errors that are rounding."""
    sizes = {panel.metric: _largest(histories, panel.metric) for panel in panels}
    error = max((size for name, size in sizes.items() if is_error(name)), default=0.0)
    least = {name: ROUNDING * error if is_error(name) else 0.0 for name in sizes}
    return [panel for panel in panels if sizes[panel.metric] >= max(least[panel.metric], 0.0)]


def metric_panels(metrics: Iterable[Metric], histories: Mapping[str, History]) -> list[Panel]:
    """Return the panels of metrics for which a rule has a finite value."""
    return _measured([_registered(metric) for metric in metrics if metric.panel], histories)


def panel_rows(
    histories: Mapping[str, History], metrics: Sequence[str | Panel] | None, width: int
) -> list[list[Panel]]:
    if metrics is None:
        measured = {name for history in histories.values() for name in history.names}
        shown = [metric for metric in shown_metrics(measured) if metric.panel]
        # Where nothing was measured there is one empty panel.
        shown = shown or list(METRICS.values())[:1]
        rows = [
            metric_panels([metric for metric in shown if metric.panel == row], histories)
            for row in sorted({metric.panel for metric in shown})
        ]
        return [row for row in rows if row] or [[_registered(shown[0])]]
    known = {key: _registered(metric) for key, metric in METRICS.items() if metric.panel}
    chosen = [
        metric if isinstance(metric, Panel) else known.get(metric, Panel(metric, metric, metric))
        for metric in metrics
    ]
    return [chosen[start : start + width] for start in range(0, len(chosen), width)]
