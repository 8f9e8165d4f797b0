"""What noise the truth leaves in the errors of a finished rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.runs.results.history import History
from experiments.runs.results.statistics import summary_key
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.metrics.registry import METRICS


def noise_summary(history: History, truth: Truth | None) -> dict[str, Any]:
    """Return what `summary.json` holds under `noise`, of the last measurement.

    truth:       root mean square standard error of the true values, in units of value; None without
        a truth, 0 of an exact one
    below_truth: {error: runs whose square was negative after the truth's was subtracted}; their
        error is written as 0
    """
    error = None if truth is None else float(truth.squared_error) ** 0.5
    return {"truth": error, "below_truth": _zeros(history) if error else {}}


def _zeros(history: History) -> dict[str, int]:
    """Return {error: runs} of errors against the truth that are 0: only a cut-off one is."""
    named = [name for name in history.names if name.startswith("error/")]
    needing = [name for name in named if METRICS[name].needs == ("truth",)]
    return {summary_key(name): int(np.sum(history.last(name) == 0)) for name in needing}


def noise_lines(noise: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines to print under the table of {rule: noise}."""
    below = [
        f"{rule} {_symbol(key)} in {count} run(s)"
        for rule, each in noise.items()
        for key, count in each["below_truth"].items()
        if count
    ]
    return [f"below the truth's noise, shown as 0: {', '.join(below)}"] if below else []


def _symbol(key: str) -> str:
    return METRICS[f"error/{key}"].symbol
