"""One method against another over runs: how often it is better, and how often it is good enough.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264). Intervals are percentile bootstraps over the runs of each method.
"""

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import CONFIDENCE, Interval

_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
_RESAMPLES = 5_000


def _drawn(values: np.ndarray, seed: int) -> Float[np.ndarray, "resample run"]:
    rows = np.random.default_rng(seed).integers(len(values), size=(_RESAMPLES, len(values)))
    return values[rows]


def improvement_probability(
    first: Float[np.ndarray, " run"], second: Float[np.ndarray, " other"]
) -> Interval:
    """Return the probability that a run of the first method scores more than one of the second.

    Ties count half. The interval is NaN where a method has a single run.
    """

    def probability(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        difference = one[..., :, None] - other[..., None, :]
        return ((difference > 0) + 0.5 * (difference == 0)).mean((-2, -1))

    center = probability(first, second)
    if min(len(first), len(second)) < 2:
        return Interval(center, np.array(np.nan), np.array(np.nan))
    drawn = probability(_drawn(first, 0), _drawn(second, 1))
    return Interval(center, *np.quantile(drawn, _TAILS))


def performance_profile(
    values: Float[np.ndarray, " run"], thresholds: Float[np.ndarray, " threshold"]
) -> Interval:
    """Return the share of runs that score at least each threshold; leaves are [threshold].

    The interval holds at each threshold alone. It is NaN for a single run.
    """

    def share(of: np.ndarray) -> np.ndarray:
        return (of[..., :, None] >= thresholds).mean(-2)

    if len(values) < 2:
        none = np.full(len(thresholds), np.nan)
        return Interval(share(values), none, none.copy())
    return Interval(share(values), *np.quantile(share(_drawn(values, 0)), _TAILS, axis=0))
