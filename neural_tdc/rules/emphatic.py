"""Emphatic TD's follow-on trace (Sutton, Mahmood & White 2016), the one rule that reads `first`.

F_t = γ_{t−1} ρ_{t−1} F_{t−1} + 1, starting at 1. It wants an ordered stream of batch 1.
"""

import torch
from torch import Tensor

from neural_tdc.types import Transition

Trace = dict[str, Tensor]


def initial_trace(like: Tensor) -> Trace:
    """Return the memory of a stream that has not begun, in the dtype and device of `like`."""
    return {"emphasis": like.new_ones(1), "carried": like.new_zeros(1)}


def follow(trace: Trace, batch: Transition) -> Trace:
    """Move the trace on by one transition; `carried` is γ_tρ_tF_t, what the next one inherits."""
    if len(batch.reward) != 1:
        raise ValueError(f"emphatic TD wants an ordered stream of batch 1, not {len(batch.reward)}")
    first = torch.zeros_like(batch.reward) if batch.first is None else batch.first
    emphasis = 1 + (1 - first) * trace["carried"]
    return {"emphasis": emphasis, "carried": batch.discount * batch.ratio * emphasis}
