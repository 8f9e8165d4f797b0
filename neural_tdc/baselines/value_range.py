"""The values that the rewards of a log allow: no true value function leaves their range."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.types import Transition


class ValueRange(NamedTuple):
    """The least and the largest value, infinite where the rewards allow any."""

    low: float
    high: float


UNLIMITED = ValueRange(-math.inf, math.inf)


def value_range(transitions: Transition) -> ValueRange:
    """Return the range of Σ γ^k r over rewards between the least and the largest of a log.

    With at least one reward and the largest discount γ it is [min(r_min, r_min/(1−γ)),
    max(r_max, r_max/(1−γ))], and [r_min, r_max]/(1−γ) where every transition has this discount.
    It holds for every policy whose rewards are between those of the log. Rewards that are all
    alike leave nothing to limit: the range is then infinite.
    """
    least, largest = float(transitions.reward.min()), float(transitions.reward.max())
    gamma = float(transitions.discount.max())
    if least == largest:
        return UNLIMITED
    if gamma >= 1:
        return ValueRange(least if least >= 0 else -math.inf, largest if largest <= 0 else math.inf)
    low, high = least / (1 - gamma), largest / (1 - gamma)
    if float(transitions.discount.min()) < gamma:
        low, high = min(low, least), max(high, largest)
    return ValueRange(low, high)


def within_limits(
    value: Float[Tensor, "time candidate"], limits: ValueRange
) -> Float[Tensor, "time candidate"]:
    """Return values within limits, NaN for those that are not finite."""
    return torch.where(value.isfinite(), value.clamp(*limits), torch.nan)
