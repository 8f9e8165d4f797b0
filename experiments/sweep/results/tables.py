"""The tables of a study, as CSV, Markdown and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.evaluate_policy.results.noise import FLOOR
from experiments.runs.results.intervals import Interval
from experiments.runs.results.report import mean_with_interval, number
from experiments.runs.results.statistics import summary_key
from experiments.sweep.results.measures import median_of_all
from experiments.sweep.results.rows import (
    Report,
    Row,
    described,
    key_of,
    summarised,
)
from neural_tdc.metrics.metric import Metric
from neural_tdc.metrics.registry import METRICS

SYMBOLS = {"auc": "mean over a run", "final": "at the end"}
# The columns of every table: when, which metric, and what is said of when.
TABLE_METRICS = (
    ("final", "error/rmsve", ""),
    ("final", "error/rmspbe", ""),
    ("first", "error/lstd_rmsve", ", first"),
    ("final", "error/lstd_rmsve", ", last"),
)


def _cell(value: Any) -> str:
    """Return a cell that reads back as the same number; empty for what does not exist."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as CSV; a column that a record lacks is empty there."""
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(record.get(name, math.nan)) for name in names] for record in records)
    return text.getvalue()


def sweep_csv(rows: Sequence[Row]) -> str:
    """Return a row a configuration: its steps, and mean, interval and median of every error."""
    return as_csv([{**described(row), **summarised(row)} for row in rows])


def selected_csv(reports: Sequence[Report], select: str) -> str:
    """Return a row a selected configuration: its fresh runs, and their differences in pairs."""
    return as_csv([report.columns(select) for report in reports])


def metric_of(select: str) -> Metric:
    """Return the metric of a selection such as `auc_rmsve`."""
    return METRICS[f"error/{select.partition('_')[2]}"]


def title_of(select: str) -> str:
    """Return what a selection is by, in words."""
    return f"{metric_of(select).symbol}, {SYMBOLS[select.partition('_')[0]]}"


def step_text(value: float) -> str:
    """Return a step size or ratio as a power of two where it is one; "–" where there is none."""
    if math.isnan(value) or value == 0:
        return "–"
    if math.isinf(value):
        return "∞"
    exponent = math.log2(value) if value > 0 else math.nan
    if value != 1 and exponent == round(exponent):
        return f"2^{round(exponent)}"
    return f"{value:.3g}"


def _entry(columns: Mapping[str, Any], name: str) -> str:
    ends = {"mean": "", "low": "_low", "high": "_high"}
    values = {part: columns.get(name + end, math.nan) for part, end in ends.items()}
    # The largest error has the size of the values: what is far below it is rounding.
    errors = (value for key, value in columns.items() if key.startswith(("auc_", "first_")))
    scale = max(filter(math.isfinite, errors), default=0.0)
    return mean_with_interval(values, scale)


def _lines(reports: Sequence[Report], select: str) -> list[tuple[str, list[str]]]:
    """Return (panel, cells) of every rule's best, in the order of the table's columns."""
    column = key_of(select).replace("/", "_")
    lines = []
    for report in reports:
        if not report.of_rule:
            continue
        columns, configuration = report.columns(select), report.fresh.configuration
        against = _entry(columns, f"{column}_difference")
        cells = [
            report.fresh.cell.rule,
            step_text(report.fresh.swept),
            step_text(configuration.ratio),
            step_text(configuration.auxiliary_ratio),
            _entry(columns, column),
            _median(report.fresh, select),
            "–" if report.of_baseline or report.baseline is None else against,
            *(_entry(columns, f"{when}_{summary_key(key)}") for when, key, _ in TABLE_METRICS),
            f"{columns['diverged']} of {columns['runs']}",
        ]
        lines.append((_panel(report), cells))
    return lines


def _panel(report: Report) -> str:
    return ", ".join(report.fresh.panel)


def _floor(report: Report) -> str:
    """Return the rule and what a true RMSPBE of 0 shows at most; empty where it is exact."""
    floors = report.fresh.values.get(FLOOR, np.zeros(0))
    present = floors[np.isfinite(floors)]
    return f"{report.fresh.cell.rule} {number(float(present.mean()))}" if present.size else ""


def _median(row: Row, select: str) -> str:
    """Return the median over all runs; "diverged" where that is a diverged run."""
    median = median_of_all(row.values[key_of(select)])
    return number(median) if math.isfinite(median) else "diverged"


def _heads(select: str, baseline: str) -> list[str]:
    return [
        "rule",
        "step",
        "β/α",
        "η/β",
        f"mean {title_of(select)}",
        "median, all runs",
        f"minus {baseline}'s",
        *(f"mean {METRICS[key].symbol}{said}" for _, key, said in TABLE_METRICS),
        "diverged",
    ]


def _ratios(
    reports: Sequence[Report], select: str, *, difference: bool = False
) -> dict[str, list[list[str]]]:
    """Return {panel: table} of what was selected by, a line a rule and a column a ratio.

    difference: of the differences from the baseline's best of all ratios, not from itself
    """
    column = key_of(select).replace("/", "_") + ("_difference" if difference else "")
    cells: dict[str, dict[str, dict[str, str]]] = {}
    ratios: dict[str, float] = {}
    for report in reports:
        if report.fresh.cell.control:
            continue
        panel = _panel(report)
        ratio = step_text(report.fresh.configuration.ratio)
        ratios[ratio] = report.fresh.configuration.ratio
        itself = difference and report.of_baseline and report.of_rule
        shown = "–" if itself else _entry(report.columns(select), column)
        lost = int(report.fresh.diverged.sum())
        of_rule = cells.setdefault(panel, {}).setdefault(report.fresh.cell.rule, {})
        of_rule[ratio] = f"{shown} ({lost} diverged)" if lost else shown
    ordered = sorted(ratios, key=lambda text: ratios[text])
    return {
        panel: [
            ["rule", *ordered],
            *([rule, *(found.get(ratio, "–") for ratio in ordered)] for rule, found in by.items()),
        ]
        for panel, by in cells.items()
    }


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; its first row are the heads."""
    ruled = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ruled)


def ratio_text(interval: Interval) -> str:
    """Return "1.04 [0.95, 1.14]" of a ratio or a share, or what of it there is."""
    mean, low, high = map(float, interval)
    if not math.isfinite(mean):
        return "–"
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(low) else f"{mean:.2f}"


def markdown(reports: Sequence[Report], select: str, baseline: str) -> str:
    """Return the best configuration of every rule on fresh runs, a Markdown table a panel."""
    heads, lines = _heads(select, baseline), _lines(reports, select)
    by_ratio, differences = (_ratios(reports, select, difference=each) for each in (False, True))
    parts = []
    for panel in dict.fromkeys(panel for panel, _ in lines):
        body = [cells for each, cells in lines if each == panel]
        parts.append(f"### {panel}\n\n{markdown_table([heads, *body])}\n")
        floors = [
            _floor(report) for report in reports if report.of_rule and _panel(report) == panel
        ]
        if said := ", ".join(filter(None, floors)):
            parts.append(f"An RMSPBE below its noise cannot be told from 0: {said}\n")
        if panel in by_ratio and len(by_ratio[panel][0]) > 2:
            said = f"{title_of(select)}, by β/α"
            for end, table in (("", by_ratio), (f", minus {baseline}'s best of all", differences)):
                parts.append(f"{said}{end}\n\n{markdown_table(table[panel])}\n")
    note = (
        "Steps selected on the runs of the sweep, reported on fresh ones: means over the runs that "
        "survive with 95 % intervals (docs/statistics.md); differences in pairs of runs. RMSVE and "
        "RMSPBE are those at the end, LSTD-RMSVE those of the first and the last measurement.\n"
    )
    if any(report.fresh.cell.control for report in reports):
        note += (
            "Controls without a step learn from all transitions at once; their mean over a run is "
            "one over ever longer parts of the data.\n"
        )
    return "\n".join([*parts, note])


_LATEX = {"α": r"$\alpha$", "β": r"$\beta$", "η": r"$\eta$", "∞": r"$\infty$", "–": "--"}


def _escaped(text: str) -> str:
    for special in "_%&#":
        text = text.replace(special, "\\" + special)
    for symbol, command in _LATEX.items():
        text = text.replace(symbol, command)
    return re.sub(r"^2\^(-?\d+)$", r"$2^{\1}$", text)


def latex(reports: Sequence[Report], select: str, baseline: str) -> str:
    """Return the table of `markdown` as one LaTeX tabular for the package booktabs."""
    heads, lines = _heads(select, baseline), _lines(reports, select)
    parts = [
        rf"\begin{{tabular}}{{{'l' * len(heads)}}}",
        r"\toprule",
        " & ".join(map(_escaped, heads)) + r" \\",
    ]
    for panel in dict.fromkeys(panel for panel, _ in lines):
        parts += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{{_escaped(panel)}}} \\"]
        parts += [
            " & ".join(map(_escaped, cells)) + r" \\" for each, cells in lines if each == panel
        ]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])
