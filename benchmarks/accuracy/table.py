"""The tables of the accuracy benchmark."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.methods import PRODUCT, REFITS, RULE_METHODS, RULES, WITH_RULES
from benchmarks.accuracy.peers import PEERS
from neural_tdc.metrics.paired_errors import student_quantile

COLUMNS = (*PRODUCT, *WITH_RULES, *REFITS, *RULE_METHODS, *PEERS)
# An error this much above the least one counts as chosen well.
_WELL = 1.05


def geometric_mean(numbers: Iterable[float]) -> float:
    """Return the geometric mean; not a number of none."""
    logs = [math.log(max(number, 1e-6)) for number in numbers]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def with_interval(numbers: Sequence[float]) -> str:
    """Return the geometric mean with Student's t of the logarithms, over logs."""
    mean = geometric_mean(numbers)
    if not mean < 100:
        return "> 100"
    if len(numbers) < 2:
        return f"{mean:.3f}"
    spread = float(np.std(np.log(np.maximum(numbers, 1e-6)), ddof=1))
    half = student_quantile(len(numbers) - 1) * spread / math.sqrt(len(numbers))
    return f"{mean:.3f} [{mean * math.exp(-half):.3f}, {mean * math.exp(half):.3f}]"


def rows_of_markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, whose first row is its head."""
    head, *others = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|---" * len(rows[0]) + "|", *others]


def tables(found: list[dict[str, Any]]) -> str:
    """Return all tables in Markdown: errors, choices without a truth, and learning rules."""
    parts = [_errors(found), _choices(found), _rules(found)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _errors(found: list[dict[str, Any]]) -> list[str]:
    """Return errors by problem and method, geometric means over logs, and what they come to."""
    methods = [m for m in COLUMNS if any(m in each["results"] for each in found)]
    problems = list(dict.fromkeys(each["problem"] for each in found))
    lines, ratios = [["problem", *methods]], {}
    for problem in problems:
        rows = [each["results"] for each in found if each["problem"] == problem]
        errors = {m: [r[m]["error"] for r in rows if m in r] for m in methods}
        means = {m: geometric_mean(e) for m, e in errors.items() if e}
        cells = []
        for method in methods:
            shown = with_interval(errors[method]) if errors[method] else "–"
            best = method in means and means[method] == min(means.values())
            cells.append(f"**{shown}**" if best else shown)
        lines.append([problem, *cells])
        usual = [means[m] for m in PEERS if m in means]
        if usual and "auto" in means:
            ratios[problem] = means["auto"] / min(usual)
    seconds = [
        f"{np.median([e['results'][m]['seconds'] for e in found if m in e['results']]):.1f}"
        for m in methods
    ]
    lines.append(["*median seconds*", *seconds])
    text = rows_of_markdown(lines)
    if ratios:
        listed = ", ".join(f"{problem} {ratio:.2f}" for problem, ratio in ratios.items())
        over = with_interval(list(ratios.values()))
        text += [
            "",
            f"`auto` relative to the best usual method of each problem: {listed}; geometric mean "
            f"over problems {over}, largest {max(ratios.values()):.2f}.",
        ]
    return text


def _choices(found: list[dict[str, Any]]) -> list[str]:
    """Return how each criterion's choice compares with the best candidate."""
    lines = [["criterion", "data", "logs", "error / least", "within 5 %", "largest"]]
    for off_policy in (False, True):
        rows = [
            each["results"]["auto"]["regret"]["relative"]
            for each in found
            if "auto" in each["results"] and each["off_policy"] == off_policy
        ]
        for criterion in rows[0] if rows else ():
            ratios = [row[criterion] for row in rows]
            well = sum(ratio <= _WELL for ratio in ratios)
            data = "off-policy" if off_policy else "on-policy"
            lines.append(
                [
                    *(criterion, data, str(len(rows)), f"{geometric_mean(ratios):.2f}"),
                    *(f"{well} of {len(rows)}", f"{max(ratios):.2f}"),
                ]
            )
    return rows_of_markdown(lines)


def _rules(found: list[dict[str, Any]]) -> list[str]:
    """Return what learning rules are worth as candidates next to the others."""
    (name,) = WITH_RULES
    present = [each for each in found if name in each["results"]]
    if not present:
        return []
    lines = [["problem", "log", "auto", "with rules", *RULES, "weight of rules"]]
    for each in present:
        row, alone = each["results"][name], each["results"]["auto"]["error"]
        families = row["families"]
        weight = sum(families[rule]["weight"] for rule in RULES if rule in families)
        cells = [
            f"{families[rule]['error']:.3f}" if "error" in families.get(rule, {}) else "–"
            for rule in RULES
        ]
        start = [each["problem"], str(each["seed"]), f"{alone:.3f}", f"{row['error']:.3f}"]
        lines.append([*start, *cells, f"{weight:.0%}"])
    return rows_of_markdown(lines)
