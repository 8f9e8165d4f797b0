"""The rows as text: one table of populations, one of updates, and a line for every other row."""

from collections.abc import Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _lines(rows: Rows, columns: dict[str, str]) -> list[str]:
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        if "error" in row:
            named = ", ".join(str(row[name]) for name in columns if name in row)
            lines.append(f"| {named}: {row['error']} |")
        else:
            lines.append("| " + " | ".join(_number(row.get(name)) for name in columns) + " |")
    return lines


def text_table(rows: Rows) -> str:
    """Return all rows as Markdown, under the name of the device."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row["part"], []).append(row)
    devices = [row for row in parts.get("device", []) if "name" in row]
    title = f"{devices[0]['name']}, torch {devices[0]['torch']}" if devices else "unknown device"
    lines = [f"## {title}", ""]
    populations = {
        "runs": "runs",
        "optimizer": "optimiser",
        "batch": "batch",
        "mode": "mode",
        "microseconds_a_step": "µs a step",
        "run_steps_per_second": "run-steps/s",
        "share_of_copy_rate": "of the copy rate",
        "share_of_matrix_rate": "of the matrix rate",
        "starts_per_update": "starts an update",
    }
    updates = {
        "batch": "batch",
        "variant": "variant",
        "updates_per_second": "updates/s",
        "with_sampling_per_second": "with sampling",
        "starts": "starts",
        "copies": "copies",
        "waits": "waits",
    }
    for name, columns in (("populations", populations), ("updates", updates)):
        if name in parts:
            lines += [*_lines(parts[name], columns), ""]
    for name, others in parts.items():
        if name not in ("populations", "updates"):
            for row in others:
                said = ", ".join(f"{key} {_number(value)}" for key, value in row.items()
                                 if key not in ("part", "said"))  # fmt: skip
                lines.append(f"- {name}: {said}")
    return "\n".join(lines) + "\n"
