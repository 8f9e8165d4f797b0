"""The tables of `experiments.two_step`, on the screen and in metrics.csv."""

import csv
import io
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from experiments.runs.results.report import mean_with_interval, number


def metrics_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; missing values are empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in row.items()})
    return text.getvalue()


def line_verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each sum which share is best after two steps, in closed form and in simulation."""
    lines = [
        f"{'layers':<8}{'steps':<7}{'sum':<7}{'best share: closed form':<25}{'signal':<9}"
        f"{'exact':<9}exact loss there minus at equal rates"
    ]
    keys = dict.fromkeys((row["layers"], row["steps"], row["sum"]) for row in rows)
    for layers, steps, total in keys:
        chosen = [
            row
            for row in rows
            if (row["layers"], row["steps"], row["sum"]) == (layers, steps, total)
        ]
        best = [min(chosen, key=itemgetter(kind)) for kind in ("closed_form", "signal", "exact")]
        entry = best[2]
        low, high = entry["exact_minus_equal_low"], entry["exact_minus_equal_high"]
        gain = f"{entry['exact_minus_equal']:.2g} [{low:.2g}, {high:.2g}]"
        lines.append(
            f"{layers:<8}{steps:<7}{total:<7g}{best[0]['share']:<25g}{best[1]['share']:<9g}"
            f"{entry['share']:<9g}{gain if entry['share'] != 0.5 else '–'}"
        )
    return lines


def window_lines(windows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say of each width for which sums equal rates win the second step."""
    lines = [
        f"{'layers':<8}{'width':<7}{'equal rates win the second step for sums':<42}"
        "least loss of all: at sum, with share"
    ]
    for entry in windows.values():
        inside = "never" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"
        lines.append(
            f"{entry['layers']:<8}{entry['width']:<7}{inside:<42}"
            f"{entry['sum_of_least_loss']:.3f}, {entry['share_of_least_loss']:.3f} "
            f"(loss {number(entry['least_loss'])})"
        )
    return lines


def optima_lines(optima: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say of each kind of network what one exact step reaches with free, equal and single rates."""
    lines = []
    for name, entry in optima.items():
        shown = ", ".join(
            f"{kind} {mean_with_interval(entry[kind])}"
            for kind in ("alone", "equal", "free", "share")
        )
        if left_out := entry["left_out"]:
            shown += f" (without {left_out} degenerate draws, where a rate changes nothing)"
        lines.append(f"  {name}: {shown}")
    return lines
