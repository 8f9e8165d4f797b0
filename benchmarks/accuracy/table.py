"""The table of the accuracy benchmark."""

import math
from typing import Any

import numpy as np

from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.run import AUTO, RULES


def _geometric(numbers: list[float]) -> float:
    return math.exp(sum(math.log(max(number, 1e-6)) for number in numbers) / len(numbers))


def table(found: list[dict[str, Any]]) -> str:
    """Return the Markdown tables: errors by problem and method, and what they come to."""
    methods = [AUTO, *RULES, *PEERS]
    problems = list(dict.fromkeys(each["problem"] for each in found))

    def errors(problem: str, method: str) -> list[float]:
        rows = [each for each in found if each["problem"] == problem]
        return [each["results"][method]["error"] for each in rows if method in each["results"]]

    lines = ["| problem | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    ratios = []
    for problem in problems:
        # Geometric means over logs: errors are ratios, and one bad log must be seen but not rule.
        means = {m: _geometric(e) for m in methods if (e := errors(problem, m))}
        best = min(means[m] for m in PEERS if m in means)
        ratios.append(means[AUTO] / best)
        cells = []
        for method in methods:
            if method not in means:
                cells.append("–")
            else:
                shown = f"{means[method]:.3f}" if means[method] < 100 else "> 100"
                cells.append(f"**{shown}**" if means[method] == min(means.values()) else shown)
        lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    seconds = []
    for method in methods:
        took = [e["results"][method]["seconds"] for e in found if method in e["results"]]
        seconds.append(f"{np.median(took):.1f}")
    lines.append("| *median seconds* | " + " | ".join(seconds) + " |")
    listed = ", ".join(f"{problem} {ratio:.2f}" for problem, ratio in zip(problems, ratios))
    lines += [
        "",
        f"`auto` relative to the best usual method of each problem: {listed}; geometric mean "
        f"{_geometric(ratios):.2f}, largest {max(ratios):.2f}.",
    ]
    return "\n".join(lines)
