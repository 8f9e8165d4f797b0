"""Resampling: an interval for the chance of the data, from episodes drawn with replacement.

Runs that share one log differ by initial parameters and draws, which does not show the effect of
another log. Here run 0 learns from the log as it is, and every other run from episodes of it that
are drawn with replacement (the bootstrap of Hao et al. 2021, "Bootstrapping Fitted Q-Evaluation for
Off-Policy Inference", ICML). No transition is copied: each run has its own rows of the log.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.baselines.log_preparation import episode_numbers
from neural_tdc.metrics.paired_errors import student_quantile
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# With fewer episodes than this, long ones are cut into blocks of 4/(1 − γ) transitions.
FEW_UNITS = 20


class ResamplingUnits(NamedTuple):
    """The parts of a log that are drawn with replacement.

    number:  [time] the unit of every transition, from 0 in the order of the log
    kind:    `episodes`, or `blocks` where episodes are few and long, as in a continuing stream
    """

    number: Tensor
    kind: str

    @property
    def unit_count(self) -> int:
        """Return how many units there are."""
        return int(self.number[-1]) + 1

    def __str__(self) -> str:
        """Return the units in words."""
        kind = self.kind if self.unit_count > 1 else self.kind.removesuffix("s")
        return f"{self.unit_count:,} {kind}"


class DataInterval(NamedTuple):
    """An estimate from a log, and the 95 % interval for the chance of the log."""

    mean: float
    low: float
    high: float


def resampling_units(transitions: Transition) -> ResamplingUnits:
    """Cut a stream, leaves [time, …], into episodes, or into blocks where they are few and long.

    Raises ValueError in one line for a log of one unit, which cannot be drawn from.
    """
    first = transitions.first
    starts = torch.zeros_like(transitions.reward) if first is None else first.clone()
    starts[0] = 1
    units = ResamplingUnits((starts > 0).long().cumsum(0) - 1, "episodes")
    if units.unit_count < FEW_UNITS:
        blocks = ResamplingUnits(episode_numbers(transitions), "blocks")
        units = blocks if blocks.unit_count > units.unit_count else units
    if units.unit_count < 2:
        raise ValueError(
            f"the stream holds one episode of {len(starts):,} transitions, which cannot be "
            "resampled: at least 2 episodes are needed, or a stream longer than 4/(1 − γ) "
            "transitions"
        )
    return units


def resampled_rows(number: Int[Tensor, " time"], runs: int, seed: int) -> Int[Tensor, "run time"]:
    """Return the rows of the log that every run learns from, in their order.

    number: of the unit of every row, increasing

    Run 0 has the log as it is. The others have units drawn with replacement, one behind the other,
    as many as fill the length of the log; the last one is cut there. Run i depends on (seed, i)
    only.
    """
    length = torch.bincount(number).cpu()
    begin = length.cumsum(0) - length
    time = len(number)
    rows = [torch.arange(time)]
    for run in range(1, runs):
        source = generator(seed, "resample", run)
        drawn, total = [], 0
        while total < time:
            # About as many as are missing; more are drawn where these turn out short.
            some = max(1, math.ceil((time - total) * len(length) / time))
            drawn.append(torch.randint(len(length), (some,), generator=source))
            total += int(length[drawn[-1]].sum())
        unit = torch.cat(drawn)
        size = length[unit]
        offset = (begin[unit] - (size.cumsum(0) - size)).repeat_interleave(size)
        rows.append((offset + torch.arange(total))[:time])
    return torch.stack(rows).to(number.device)


def resampling_counts(
    number: Int[Tensor, " time"], resamples: int, seed: int
) -> Float[Tensor, "resample unit"]:
    """Return how often each unit is drawn: as many draws as there are units; resample 0 has all.

    In float64. The draws are others than those of `resampled_rows`, whose number is not fixed.
    """
    units = int(number[-1]) + 1
    counts = [torch.ones(units, dtype=torch.float64)]
    for resample in range(1, resamples):
        drawn = torch.randint(units, (units,), generator=generator(seed, "counts", resample))
        counts.append(torch.bincount(drawn, minlength=units).double())
    return torch.stack(counts).to(number.device)


def merged_units(number: Int[Tensor, " time"], most: int) -> Int[Tensor, " time"]:
    """Join neighbouring units so that at most `most` are left, of about as many units each."""
    units = int(number[-1]) + 1
    return number if units <= most else number * most // units


def data_interval(values: Float[Tensor, " resample"]) -> DataInterval:
    """Return the value of the log as it is, values[0], and its 95 % interval over resamples.

    Student's t with the deviation of the resamples, which may be few. Values that are not finite
    are left out; without values[0], or with fewer than two others, there is no interval (NaN).
    docs/statistics.md has its coverage.
    """
    center, others = float(values[0]), values[1:].double()
    others = others[others.isfinite()]
    if not math.isfinite(center) or len(others) < 2:
        return DataInterval(center, math.nan, math.nan)
    half = student_quantile(len(others) - 1) * float(others.std())
    return DataInterval(center, center - half, center + half)
