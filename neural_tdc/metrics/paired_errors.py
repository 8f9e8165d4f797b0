"""How clearly one candidate's errors exceed another's; episodes are the independent draws."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# The quantile of the normal distribution of a two-sided interval of 95 %.
_NORMAL = 1.959963984540054


class PairedDifference(NamedTuple):
    """How much larger one candidate's error is than another's, with an interval of 95 %."""

    mean: float
    low: float
    high: float

    def widened(self, factor: float) -> "PairedDifference":
        """Return the interval with both sides so many times as long."""
        low, high = self.mean - self.low, self.high - self.mean
        return PairedDifference(self.mean, self.mean - factor * low, self.mean + factor * high)


class EpisodeSums(NamedTuple):
    """Errors at states, summed over the states of each episode.

    total: [episode, *candidate] in float64
    size:  [episode] states
    """

    total: Tensor
    size: Tensor

    @property
    def mean(self) -> Float[Tensor, "*candidate"]:
        """Return the mean over all states."""
        return self.total.sum(0) / self.size.sum()

    def of(self, candidate: int) -> "EpisodeSums":
        """Return the sums of one candidate."""
        return self._replace(total=self.total[:, candidate])


def episode_sums(
    errors: Iterable[Float[Tensor, "_ *candidate"]], episode: Int[Tensor, " state"]
) -> EpisodeSums:
    """Sum errors over the states of each episode; errors: some states at a time, in their order."""
    _, group = episode.unique(return_inverse=True)
    size, begin = torch.bincount(group).double(), 0
    total: Tensor | None = None
    for error in errors:
        if total is None:
            total = size.new_zeros(len(size), *error.shape[1:])
        total.index_add_(0, group[begin : begin + len(error)], error.double())
        begin += len(error)
    assert total is not None
    return EpisodeSums(total, size)


def mean_with_error(
    difference: EpisodeSums,
) -> tuple[Float[Tensor, "*candidate"], Float[Tensor, "*candidate"]]:
    """Return means over states and their standard errors, that of a ratio of sums over episodes.

    The standard error is infinite with one episode, which tells nothing of another.
    """
    (total, size), mean = difference, difference.mean
    groups = len(size)
    if groups < 2:
        return mean, torch.full_like(mean, math.inf)
    residual = (total - size.reshape(-1, *[1] * mean.dim()) * mean).square().sum(0)
    return mean, (residual * groups / (groups - 1)).sqrt() / size.sum()


def paired_error_difference(error: EpisodeSums, other: EpisodeSums) -> PairedDifference:
    """Return the mean of `error` − `other` over states, with an interval over episodes.

    error, other: squared errors of two candidates at the same states

    The interval is Student's t. With one episode it is unbounded.
    """
    difference = error._replace(total=error.total - other.total)
    mean, deviation = map(float, mean_with_error(difference))
    if deviation == math.inf:
        return PairedDifference(mean, -math.inf, math.inf)
    half = student_quantile(len(error.size) - 1) * deviation
    return PairedDifference(mean, mean - half, mean + half)


def student_quantile(freedom: int) -> float:
    """Return the quantile of Student's t for a two-sided interval of 95 %.

    freedom: degrees of freedom; ValueError below 1

    Exact for one and two degrees of freedom, else Cornish and Fisher's expansion, within 0.4 %.
    """
    if freedom < 1:
        raise ValueError(f"freedom is {freedom}; it must be at least 1")
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return math.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    z, n = _NORMAL, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def equally_good(error: EpisodeSums) -> Bool[Tensor, " candidate"]:
    """Tell which candidates' mean errors are within one standard error of the least one.

    error: squared errors at the same states; a candidate with one that is not finite is never good

    The standard error is that of the paired difference to the best candidate, over episodes: what
    the data cannot tell from the best.
    """
    total, finite = error.total, error.total.isfinite().all(0)
    mean = torch.where(finite, error.mean, torch.inf)
    difference = error._replace(total=total - total[:, mean.argmin(), None])
    average, deviation = mean_with_error(difference)
    # One episode says nothing of chance: then the best one alone is taken.
    return finite & (average <= deviation.where(deviation.isfinite(), 0))
