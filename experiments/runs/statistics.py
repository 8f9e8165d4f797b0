"""From a history to numbers: means over runs, their 95 % intervals, and a run's summary.

Every mean is one over the runs that survived, and stands beside the count of those that diverged.
Keys of a summary: `error/rmsve` becomes `rmsve`; any other `group/metric` becomes `group_metric`,
such as `tracking_error_head`, `features_effective_rank`, `norm_body`. Step sizes and speed are left
out.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from experiments.runs.history import History

CONFIDENCE = 0.95
NOT_SUMMARISED = ("step_size", "speed")
_COLUMNS_AT_ONCE = 256


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval; NaN where there is none.

    mean, low, high:  [...] in the unit of the values
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@functools.lru_cache(maxsize=2)
def _resampling_counts(runs: int, resamples: int) -> Float[np.ndarray, "resample run"]:
    """Return how often each run stands in each resample; the same at every call."""
    drawn = np.random.default_rng(0).integers(runs, size=(resamples, runs))
    rows = np.arange(resamples)[:, None] * runs
    counts = np.bincount((rows + drawn).ravel(), minlength=resamples * runs)
    return counts.reshape(resamples, runs).astype(np.float64)


def _expanded_tail(count: np.ndarray) -> np.ndarray:
    """Return the tail to cut for a count of runs: 2.5 % for many, less for few."""
    degrees = np.maximum(count - 1, 1)
    t = stats.t.ppf((1 - CONFIDENCE) / 2, degrees)
    return stats.norm.cdf(np.sqrt(count / degrees) * t)


def _order_statistic(
    ordered: Float[np.ndarray, "resample column"], valid: np.ndarray, tail: np.ndarray
) -> Float[np.ndarray, " column"]:
    position = tail * np.maximum(valid - 1, 0)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, np.maximum(valid - 1, 0))
    columns = np.arange(ordered.shape[1])
    weight = position - below
    return (1 - weight) * ordered[below, columns] + weight * ordered[above, columns]


def mean_interval(values: Float[np.ndarray, "*time run"], resamples: int | None = None) -> Interval:
    """Return mean and 95 % bootstrap interval over runs, the last axis; values not finite are out.

    With fewer than two finite values there is no interval: low and high are NaN. Runs are drawn
    with a fixed seed, so the same values give the same interval, and the resamples are shared over
    time. `resamples` is 10,000 for up to 200 runs and 2,000 above, if not given. Source: expanded
    percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap"), which
    widens the plain one for few runs as Student's t does, up to the range of the values: with
    fewer than five of them that range is the interval, and covers the truth less often than 95 %.
    """
    runs = values.shape[-1]
    if runs == 0:
        none = np.full(values.shape[:-1], np.nan)
        return Interval(none, none.copy(), none.copy())
    flat = np.asarray(values, dtype=np.float64).reshape(-1, runs).T
    counts = _resampling_counts(runs, resamples or (10_000 if runs <= 200 else 2_000))
    mean, low, high = (np.full(flat.shape[1], np.nan) for _ in range(3))
    for start in range(0, flat.shape[1], _COLUMNS_AT_ONCE):
        block = slice(start, start + _COLUMNS_AT_ONCE)
        finite = np.isfinite(flat[:, block])
        kept = np.where(finite, flat[:, block], 0.0)
        survivors = finite.sum(axis=0)
        some, several = survivors > 0, survivors > 1
        mean[block][some] = kept.sum(axis=0)[some] / survivors[some]
        # A resample may hold none of the survivors: it is no value, and sorts to the end.
        drawn = counts @ finite
        total = counts @ kept
        ordered = np.sort(np.where(drawn > 0, total / np.maximum(drawn, 1), np.nan), axis=0)
        valid = (drawn > 0).sum(axis=0)
        tail = _expanded_tail(survivors)
        ends = [_order_statistic(ordered, valid, tail), _order_statistic(ordered, valid, 1 - tail)]
        # Rounding alone may put the mean of equal values outside.
        low[block][several] = np.minimum(ends[0], mean[block])[several]
        high[block][several] = np.maximum(ends[1], mean[block])[several]
    shape = values.shape[:-1]
    return Interval(mean.reshape(shape), low.reshape(shape), high.reshape(shape))


def statistic_interval(
    values: Float[np.ndarray, "time run"],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 10_000,
) -> Interval:
    """Return a statistic of the means over runs, such as a slope, and its 95 % bootstrap interval.

    statistic: [time, resample] means → [resample];  values must be finite, of at least two runs
    The same expanded percentile interval as `mean_interval`.
    """
    runs = values.shape[1]
    counts = _resampling_counts(runs, resamples)
    drawn = np.sort(statistic(values @ counts.T / runs))[:, None]
    tail = _expanded_tail(np.array([runs]))
    valid = np.array([resamples])
    low, high = (_order_statistic(drawn, valid, each)[0] for each in (tail, 1 - tail))
    return Interval(statistic(values.mean(axis=1, keepdims=True))[0], low, high)


def paired_difference(
    first: Float[np.ndarray, "*time run"], second: Float[np.ndarray, "*time run"]
) -> Interval:
    """Return mean and 95 % interval of first − second over runs that share their random numbers.

    A pair counts where both values are finite. Raises ValueError where the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs of shapes {first.shape} and {second.shape}")
    with np.errstate(invalid="ignore"):
        return mean_interval(first - second)


def interquartile_mean(values: Float[np.ndarray, " run"]) -> float:
    """Return the mean of the middle half; ⌊n/4⌋ values are cut at either end, NaN are left out.

    A diverged run given as infinity is cut like any large value. NaN where nothing is given.
    """
    present = values[~np.isnan(values)]
    return float(stats.trim_mean(present, 0.25)) if present.size else float("nan")


def auc(history: History, name: str, diverged: float = np.nan) -> Float[np.ndarray, " run"]:
    """Return each run's mean over its measurements; a diverged run gets the value of `diverged`.

    For a mean over survivors that is NaN, for a selection infinity. Measurements that were not
    finite are left out.
    """
    values = history.values(name)
    finite = np.isfinite(values)
    number = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return np.where(history.diverged, diverged, mean)


def summary_key(name: str) -> str:
    """Return the key under which a metric `group/metric` stands in a summary."""
    return name.removeprefix("error/").replace("/", "_")


def number_or_none(value: float) -> float | None:
    """Return a float for JSON, which has no NaN and no infinity: None for them."""
    return float(value) if np.isfinite(value) else None


def _entry(values: Float[np.ndarray, " run"]) -> dict[str, float | None]:
    interval = mean_interval(values)
    finite = values[np.isfinite(values)]
    median = float(np.median(finite)) if finite.size else np.nan
    return {
        "mean": number_or_none(float(interval.mean)),
        "low": number_or_none(float(interval.low)),
        "high": number_or_none(float(interval.high)),
        "median": number_or_none(median),
    }


def summarise(history: History) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return {key: {"final": …, "auc": …}}, each {"mean", "low", "high", "median"} over survivors.

    `final` is the last measurement, `auc` the mean over a run's measurements. None where no run
    survived; low and high None where fewer than two did.
    """
    if not len(history):
        return {}
    return {
        summary_key(name): {
            "final": _entry(history.last(name)),
            "auc": _entry(auc(history, name)),
        }
        for name in history.names
        if name.split("/")[0] not in NOT_SUMMARISED
    }


def summary(
    history: History, *, problem: str, rule: str, steps: int, seed: int, seconds: float
) -> dict[str, Any]:
    """Return what `summary.json` holds of one run folder; `seconds` is the time spent learning."""
    return {
        "problem": problem,
        "rule": rule,
        "runs": history.runs,
        "steps": steps,
        "seed": seed,
        "diverged": int(history.diverged.sum()),
        "seconds": number_or_none(seconds),
        "run_steps_per_second": number_or_none(history.runs * steps / seconds) if seconds else None,
        "metrics": summarise(history),
    }
