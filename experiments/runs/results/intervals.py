"""95 % intervals over runs: Student's t of few runs and of errors, else the bootstrap.

Means are over the runs whose value is finite. docs/statistics.md has a table of how often each
interval covers what it is for.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

CONFIDENCE = 0.95
# Fewer runs than this get Student's t, others the bootstrap: docs/statistics.md has the coverages.
FEW_RUNS = 10
# Of fewer values nothing is cut by the interquartile mean: it is the mean.
FEWEST_CUT = 4
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


def _student(degrees: np.ndarray | int) -> np.ndarray:
    """Return the quantile of Student's t that leaves 2.5 % above it."""
    # scipy.special takes a tenth of the time that scipy.stats takes to import.
    from scipy.special import stdtrit

    return stdtrit(np.maximum(degrees, 1), (1 + CONFIDENCE) / 2)


def _expanded_tail(count: np.ndarray) -> np.ndarray:
    """Return the tail to cut for a count of runs: 2.5 % for many, less for few."""
    from scipy.special import ndtr

    return ndtr(-np.sqrt(count / np.maximum(count - 1, 1)) * _student(count - 1))


def _order_statistic(
    ordered: Float[np.ndarray, "resample column"], valid: np.ndarray, tail: np.ndarray
) -> Float[np.ndarray, " column"]:
    position = tail * np.maximum(valid - 1, 0)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, np.maximum(valid - 1, 0))
    columns = np.arange(ordered.shape[1])
    weight = position - below
    return (1 - weight) * ordered[below, columns] + weight * ordered[above, columns]


def mean_interval(
    values: Float[np.ndarray, "*time run"],
    resamples: int | None = None,
    *,
    logarithm: bool | np.ndarray = False,
) -> Interval:
    """Return mean and 95 % interval over runs, the last axis; values not finite are left out.

    Of fewer than ten finite values Student's t, of others the bootstrap; of fewer than two there is
    no interval: low and high are NaN.

    logarithm: for errors, which are skewed: Student's t for the logarithm of the mean, of any
               number of values. The ends are mean·exp(±t·standard error / mean), so low is above 0.
               One for all, or [*time] each. Where a value is negative or all are 0 it has no
               effect.
    resamples: of the bootstrap; 10,000 for up to 200 runs and 2,000 above, if not given. Runs are
               drawn with a fixed seed, so the same values give the same interval, and the
               resamples are shared over time.
    Source: the bootstrap is the expanded percentile interval (Hesterberg 2015, "What teachers
    should know about the bootstrap"), which widens the plain one as Student's t does. How often
    each covers the mean is measured by `experiments.runs.results.coverage`.
    """
    runs, shape = values.shape[-1], values.shape[:-1]
    if runs == 0:
        none = np.full(shape, np.nan)
        return Interval(none, none.copy(), none.copy())
    flat = np.asarray(values, dtype=np.float64).reshape(-1, runs).T
    finite = np.isfinite(flat)
    kept = np.where(finite, flat, 0.0)
    survivors = finite.sum(axis=0)
    mean = np.full(flat.shape[1], np.nan)
    np.divide(kept.sum(axis=0), survivors, out=mean, where=survivors > 0)
    low, high = np.full((2, flat.shape[1]), np.nan)
    squares = np.where(finite, flat - mean, 0.0) ** 2
    error = np.sqrt(squares.sum(axis=0) / np.maximum(survivors * (survivors - 1), 1))
    half = _student(survivors - 1) * error
    skewed = np.broadcast_to(logarithm, shape).reshape(-1) & (kept >= 0).all(axis=0) & (mean > 0)
    factor = np.exp(np.divide(half, mean, out=np.zeros_like(half), where=skewed))
    by_student = (survivors > 1) & ((survivors < FEW_RUNS) | skewed)
    low[by_student] = np.where(skewed, mean / factor, mean - half)[by_student]
    high[by_student] = np.where(skewed, mean * factor, mean + half)[by_student]
    columns = np.flatnonzero((survivors >= FEW_RUNS) & ~skewed)
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        block = columns[start : start + _COLUMNS_AT_ONCE]
        ends = _bootstrap(kept[:, block], finite[:, block], resamples)
        # Rounding alone may put the mean of equal values outside.
        low[block], high[block] = np.minimum(ends[0], mean[block]), np.maximum(ends[1], mean[block])
    return Interval(mean.reshape(shape), low.reshape(shape), high.reshape(shape))


def widened(interval: Interval, error: np.ndarray | float) -> Interval:
    """Return the interval of a positive mean with another, independent, common error.

    error: its standard error. Half widths are added by their squares, on the logarithm where low is
    above 0, where the interval is mean·factor^±1. The same error is in all runs, so their number
    does not lower it.
    """
    from scipy.special import ndtri

    mean, low, high = interval
    half = ndtri((1 + CONFIDENCE) / 2) * error
    skewed = (low > 0) & (mean > 0)
    known = np.where(skewed, mean, 1.0)
    relative = np.where(skewed, high, 1.0) / known
    factor = np.exp(np.hypot(np.log(relative), np.where(skewed, half, 0.0) / known))
    return Interval(
        mean,
        np.where(skewed, mean / factor, mean - np.hypot(mean - low, half)),
        np.where(skewed, mean * factor, mean + np.hypot(high - mean, half)),
    )


def _bootstrap(
    kept: Float[np.ndarray, "run column"],
    finite: Bool[np.ndarray, "run column"],
    resamples: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the expanded percentile interval of each column's mean."""
    runs = len(kept)
    counts = _resampling_counts(runs, resamples or (10_000 if runs <= 200 else 2_000))
    # A resample may hold none of the survivors: it is no value, and sorts to the end.
    drawn = counts @ finite
    means = np.where(drawn > 0, counts @ kept / np.maximum(drawn, 1), np.nan)
    ordered, valid = np.sort(means, axis=0), (drawn > 0).sum(axis=0)
    tail = _expanded_tail(finite.sum(axis=0))
    return _order_statistic(ordered, valid, tail), _order_statistic(ordered, valid, 1 - tail)


def statistic_interval(
    values: Float[np.ndarray, "time run"],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 10_000,
) -> Interval:
    """Return a statistic of the means over runs, such as a slope, and its 95 % interval.

    statistic: [time, resample] means → [resample];  values must be finite, of at least two runs
    The bootstrap of `mean_interval`; of fewer than ten runs Student's t over the jackknife's
    pseudo-values, which are the values themselves where the statistic is the mean.
    """
    runs = values.shape[1]
    center = statistic(values.mean(axis=1, keepdims=True))[0]
    if runs < FEW_RUNS:
        without = (values.sum(axis=1, keepdims=True) - values) / (runs - 1)
        pseudo = runs * center - (runs - 1) * statistic(without)
        half = _student(runs - 1) * pseudo.std(ddof=1) / np.sqrt(runs)
        return Interval(center, center - half, center + half)
    counts = _resampling_counts(runs, resamples)
    drawn = np.sort(statistic(values @ counts.T / runs))[:, None]
    tail = _expanded_tail(np.array([runs]))
    valid = np.array([resamples])
    low, high = (_order_statistic(drawn, valid, each)[0] for each in (tail, 1 - tail))
    return Interval(center, low, high)


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

    Of fewer than four values nothing is cut: it is the mean. A diverged run given as infinity is
    cut like any large value. NaN where nothing is given.
    """
    present = np.sort(values[~np.isnan(values)])
    cut = len(present) // 4
    return float(present[cut : len(present) - cut].mean()) if present.size else float("nan")


def interquartile_interval(
    values: Float[np.ndarray, "time run"], resamples: int = 10_000
) -> Interval:
    """Return the interquartile mean over runs and its 95 % interval; all are [time].

    Of fewer than ten runs Student's t with the winsorised variance (Tukey and McLaughlin 1963),
    which is that of `mean_interval` while nothing is cut; of others its bootstrap. NaN for one run.
    """
    runs = values.shape[1]
    cut = runs // 4
    middle = slice(cut, runs - cut)
    ordered = np.sort(values, axis=1)
    center = ordered[:, middle].mean(axis=1)
    if runs < 2:
        none = np.full(len(values), np.nan)
        return Interval(center, none, none.copy())
    if runs < FEW_RUNS:
        left = runs - 2 * cut
        winsorised = np.clip(ordered, ordered[:, [cut]], ordered[:, [runs - cut - 1]])
        squares = ((winsorised - winsorised.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        half = _student(left - 1) * np.sqrt(squares / (left * (left - 1)))
        return Interval(center, center - half, center + half)
    drawn = np.random.default_rng(0).integers(runs, size=(resamples, runs))
    tail, valid = _expanded_tail(np.array([runs])), np.array([resamples])
    low, high = np.empty((2, len(values)))
    for index, row in enumerate(values):
        means = np.sort(np.sort(row[drawn], axis=1)[:, middle].mean(axis=1))[:, None]
        low[index], high[index] = (
            _order_statistic(means, valid, end)[0] for end in (tail, 1 - tail)
        )
    return Interval(center, np.minimum(low, center), np.maximum(high, center))


def interval_name(counts: Iterable[int], of: str = "runs", *, logarithm: bool = False) -> str:
    """Return what intervals over these numbers of runs are, for a table's note or a legend."""
    if logarithm:
        return "95 % interval, Student's t on the logarithm"
    counts = list(counts)
    few, many = (any(map(test, counts)) for test in (_is_few, lambda count: count >= FEW_RUNS))
    if few and many:
        return f"95 % interval, Student's t below {FEW_RUNS} {of}, else bootstrap"
    return "95 % bootstrap interval" if many else "95 % interval, Student's t"


def _is_few(count: int) -> bool:
    return 1 < count < FEW_RUNS
