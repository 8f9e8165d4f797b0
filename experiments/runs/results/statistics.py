"""From a history to the summary of a run: means over runs with their 95 % intervals, and medians.

Every mean is over the runs that did not diverge, and is shown with the count of those that did.
Keys of a summary: `error/rmsve` becomes `rmsve`; any other `group/metric` becomes `group_metric`,
such as `tracking_error_head`, `features_effective_rank`, `norm_body`. Step sizes and speed are left
out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.runs.results.history import History
from experiments.runs.results.intervals import Interval, mean_interval, widened
from experiments.runs.results.phases import rounded

NOT_SUMMARISED = ("step_size", "speed", "value")
# An error below this part of the values that it was computed from is rounding of float64.
ROUNDING = 1e-12


def is_error(name: str) -> bool:
    """Return whether a metric is an error or a loss: not negative, skewed, better if smaller."""
    group, _, metric = name.partition("/")
    return group in ("error", "tracking_error") or metric in ("loss", "rmse")


def measurement_weights(steps: Int[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Return the weights of measurements in a mean over a run.

    steps: numbers of updates, increasing

    Equal weights on an even grid, whose last gap may be shorter; else those of the integral over
    updates by the trapezoidal rule.
    """
    gaps = np.diff(steps).astype(np.float64)
    if len(gaps) < 2 or ((gaps[:-1] == gaps[0]).all() and gaps[-1] <= gaps[0]):
        return np.ones(len(steps))
    return np.concatenate([gaps[:1], gaps[:-1] + gaps[1:], gaps[-1:]]) / 2


def auc(history: History, name: str, diverged: float = np.nan) -> Float[np.ndarray, " run"]:
    """Return each run's mean over its updates; a diverged run gets the value of `diverged`.

    For a mean over survivors that is NaN, for a selection infinity. Measurements that were not
    finite are left out. See `measurement_weights`.
    """
    values = history.values(name)
    weights = np.where(np.isfinite(values), measurement_weights(history.steps)[:, None], 0.0)
    number = weights.sum(axis=0)
    total = (weights * np.where(weights > 0, values, 0.0)).sum(axis=0)
    mean = np.where(number > 0, total / np.where(number > 0, number, 1.0), np.nan)
    return np.where(history.diverged, diverged, mean)


def summary_key(name: str) -> str:
    """Return the key under which a metric `group/metric` stands in a summary."""
    return name.removeprefix("error/").replace("/", "_")


def states_key(name: str) -> str:
    """Return the key of an error's standard error over the truth's states."""
    return f"noise/{summary_key(name)}_states"


def number_or_none(value: float) -> float | None:
    """Return a float for JSON, which has no NaN and no infinity: None for them."""
    return float(value) if np.isfinite(value) else None


def summary_entry(
    values: Float[np.ndarray, " run"], interval: Interval | None = None
) -> dict[str, float | None]:
    """Return {"mean", "low", "high", "median"} over the finite values, as JSON takes them.

    interval: that of `mean_interval` if not given
    """
    interval = mean_interval(values) if interval is None else interval
    finite = values[np.isfinite(values)]
    median = float(np.median(finite)) if finite.size else np.nan
    ends = {name: number_or_none(float(value)) for name, value in interval._asdict().items()}
    return {**ends, "median": number_or_none(median)}


def summarise(history: History) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return {key: {"final": …, "auc": …}}, each {"mean", "low", "high", "median"} over survivors.

    `final` is the last measurement, `auc` the mean over a run's updates. None where no run
    survived; low and high None where fewer than two did. Intervals of errors are on the logarithm,
    and where the truth's states are a sample, over them too.
    """
    if not len(history):
        return {}

    def entry(name: str, measured: Callable[[History, str], np.ndarray]) -> dict[str, float | None]:
        values = measured(history, name)
        interval = mean_interval(values, logarithm=is_error(name))
        if (of_states := states_key(name)) in history.names:
            interval = widened(interval, mean_interval(measured(history, of_states)).mean)
        return summary_entry(values, interval)

    return {
        summary_key(name): {
            "final": entry(name, History.last),
            "auc": entry(name, auc),
        }
        for name in history.names
        if name.split("/")[0] not in NOT_SUMMARISED
    }


def summary(
    history: History,
    *,
    problem: str,
    rule: str,
    steps: int,
    seed: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return what `summary.json` holds of one run folder.

    seconds: {phase: seconds}; the speed is that of the phase "learn"
    """
    learning = seconds.get("learn")
    return {
        "problem": problem,
        "rule": rule,
        "runs": history.runs,
        "steps": steps,
        "seed": seed,
        "diverged": int(history.diverged.sum()),
        "seconds": rounded(seconds),
        "run_steps_per_second": history.runs * steps / learning if learning else None,
        "metrics": summarise(history),
    }
