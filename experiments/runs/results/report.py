"""What a program says at its end: numbers with their intervals, and tables of them."""

import math
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.results.intervals import interval_name
from experiments.runs.results.statistics import ROUNDING, summary_key
from neural_tdc.metrics.metric import Metric
from neural_tdc.metrics.registry import METRICS, shown_metrics

_NONE = "–"


def number(value: float | None, spread: float | None = None) -> str:
    """Return a number with the digits that its uncertainty `spread` leaves it; – for None.

    The spread itself keeps two digits; without one the number keeps four.
    """
    if value is None or not math.isfinite(value):
        return _NONE
    size = max(abs(value), abs(spread or 0.0))
    if size == 0:
        return "0"
    leading = math.floor(math.log10(size))
    if spread and math.isfinite(spread):
        decimals = 1 - math.floor(math.log10(abs(spread)))
    else:
        decimals = 3 - leading
    # More digits than a float64 has would be made up.
    decimals = min(decimals, 15 - leading)
    if leading >= 6 or leading < -3:
        return f"{value:.{max(leading + decimals, 0)}e}"
    return f"{value:.{max(decimals, 0)}f}"


def mean_with_interval(entry: Mapping[str, float | None] | None, scale: float = 0.0) -> str:
    """Return "mean [low, high]" of an entry of a summary, or what of it there is.

    scale: the size of the numbers that the mean was computed from; "0" for what is their rounding
    A value that is None or not finite does not exist.
    """
    values = [(entry or {}).get(part) for part in ("mean", "low", "high")]
    mean, low, high = (value if math.isfinite(value or 0.0) else None for value in values)
    if mean is None:
        return _NONE
    if abs(mean) < ROUNDING * scale:
        return "0"
    if low is None or high is None:
        return number(mean)
    # Of four digits at most: an interval of no width says nothing about the digits.
    half = max((high - low) / 2, abs(mean) * 1e-3)
    return f"{number(mean, half)} [{number(low, half)}, {number(high, half)}]"


def metric_columns(
    measured: Iterable[str], metrics: Mapping[str, Metric] = METRICS
) -> list[tuple[str, str, str]]:
    """Return the table's columns: (title, key, "final" or "auc") each.

    measured: the summary keys of what was measured
    metrics:  the registry, that of policy evaluation if not given
    """
    keys = {summary_key(key): key for key in metrics}
    shown = shown_metrics((keys[name] for name in measured if name in keys), metrics)
    return [
        (f"{prefix}{metric.symbol}", summary_key(metric.key), kind)
        for kind, prefix in (("final", ""), ("auc", "AUC "))
        for metric in shown
        if kind in metric.columns
    ]


def _scale(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> float:
    """Return the size of the values that the errors of a summary were computed from."""
    sized = {summary_key(key) for key in METRICS if key.startswith("error/")} | {"norm_head"}
    means = [entry["mean"] for name in sized & {*metrics} for entry in metrics[name].values()]
    return max((abs(mean) for mean in means if mean is not None), default=0.0)


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose first row is its head: columns of one width, and a rule."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return lines


def table(
    summaries: Mapping[str, Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]] | None = None,
    first: str = "rule",
) -> str:
    """Return the final table: a line a rule, means over survivors with 95 % intervals over runs.

    The median stands next to the first mean, where there are three runs or more.

    `summaries` is {rule: summary}. columns: (title, key of a metric, "final" or "auc") each, those
    of policy evaluation if not given; columns that no rule has are left out. Errors that are the
    rounding of float64 are shown as 0. first: what the lines are called.
    """
    metrics = [summary["metrics"] for summary in summaries.values()]
    errors = columns is None
    if columns is None:
        columns = metric_columns({key for each in metrics for key in each})
    columns = [column for column in columns if any(column[1] in each for each in metrics)]
    heads = [f"mean {title}" for title, _, _ in columns]
    with_median = errors and bool(heads) and max(each["runs"] for each in summaries.values()) > 2
    if with_median:
        heads.insert(1, f"median {columns[0][0]}")
    rows = [[first, *heads, "diverged"]]
    for rule, summary in summaries.items():
        entries = [summary["metrics"].get(key, {}).get(kind) for _, key, kind in columns]
        scale = _scale(summary["metrics"])
        counts = f"{summary['diverged']} of {summary['runs']}"
        cells = [mean_with_interval(entry, scale) for entry in entries]
        if with_median:
            median = (entries[0] or {}).get("median")
            cells.insert(1, "0" if cells[0] == "0" else number(median))
        rows.append([rule, *cells, counts])
    lines = table_lines(rows)
    survivors = [summary["runs"] - summary["diverged"] for summary in summaries.values()]
    kind = interval_name(survivors, logarithm=errors)
    if any("noise_rmsve_states" in each for each in metrics):
        kind = f"{kind}; of RMSVE over runs and the states of the true values"
    kinds = "means and medians" if with_median else "means"
    note = f"{kinds} over the runs that did not diverge; of an error, over each run's root [{kind}]"
    if not errors:
        note = f"means over the runs that did not diverge [{kind}, of errors on the logarithm]"
    return "\n".join([*lines, note])


def divergence_warning(summary: Mapping[str, Any]) -> str | None:
    """Return the one line to print where every run of a rule diverged, None otherwise."""
    if summary["diverged"] < summary["runs"]:
        return None
    runs = "its run" if summary["runs"] == 1 else f"all {summary['runs']} runs"
    return (
        f"warning: {summary['rule']}: {runs} diverged, so there are no results; smaller step sizes "
        "may help"
    )


def tensorboard_line(folder: Path) -> str:
    """Return the line that starts TensorBoard on a folder."""
    program = "tensorboard"
    if shutil.which(program) is None:
        program = f"{shlex.quote(sys.executable)} -m tensorboard.main"
    return f"{program} --logdir {shlex.quote(str(folder))}"


def large_number(value: float) -> str:
    """Return a rate or count in three digits with k, M or G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
