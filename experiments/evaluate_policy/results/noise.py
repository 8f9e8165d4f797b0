"""What noise the truth and the held-out transitions leave in the errors of a finished rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.runs.results.history import History
from experiments.runs.results.report import number
from experiments.runs.results.statistics import number_or_none, summary_key
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.metrics.registry import METRICS

FLOOR = "noise/rmspbe_floor"


def noise_summary(history: History, truth: Truth | None) -> dict[str, Any]:
    """Return what `summary.json` holds under `noise`, of the last measurement.

    truth:        root mean square standard error of the true values, in units of value; None
        without a truth, 0 of an exact one
    rmspbe_floor: mean over runs of what a true RMSPBE of 0 shows at most in 95 of 100 samples of
        held-out transitions; None where it is exact
    below_noise:  {error: runs whose square was negative after that of the noise was subtracted};
        their error is written as 0
    """
    error = None if truth is None else float(truth.squared_error) ** 0.5
    floor = _mean(history.last(FLOOR)) if FLOOR in history.names else None
    noisy = [name for name in history.names if error and _of_truth(name)]
    noisy += [] if floor is None else ["error/rmspbe"]
    zeros = {summary_key(name): int(np.sum(history.last(name) == 0)) for name in noisy}
    return {"truth": error, "rmspbe_floor": floor, "below_noise": zeros}


def _of_truth(name: str) -> bool:
    """Return whether it is an error against the truth: 0 only where it is cut off."""
    return name.startswith("error/") and METRICS[name].needs == ("truth",)


def _mean(values: np.ndarray) -> float | None:
    present = values[np.isfinite(values)]
    return number_or_none(float(present.mean())) if present.size else None


def noise_lines(noise: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines to print under the table of {rule: noise}."""
    below = [
        f"{rule} {_symbol(key)} in {count} run(s)"
        for rule, each in noise.items()
        for key, count in each["below_noise"].items()
        if count
    ]
    floors = {rule: each["rmspbe_floor"] for rule, each in noise.items() if each["rmspbe_floor"]}
    said = ", ".join(f"{rule} {number(floor)}" for rule, floor in floors.items())
    lines = [f"an RMSPBE below its noise cannot be distinguished from 0: {said}"] if said else []
    return [*lines, f"below the noise, shown as 0: {', '.join(below)}"] if below else lines


def _symbol(key: str) -> str:
    return METRICS[f"error/{key}"].symbol
