"""λ over segments of consecutive transitions, in control: the forward view with Watkins's traces.

A batch consists of segments; transition k + 1 of the batch may continue k, and what follows enters
k by

    d_k = λΓ_k where k + 1 continues k and takes the action b_k that was best at s'_k = s_{k+1},
          0 elsewhere: at a segment's last transition, an end, a cut, and before an explored action

    δ^λ_k = δ_k + d_k δ^λ_{k+1}            m_k(u) = u_k + d_{k−1} m_{k−1}(u)

Σ_k u_k δ^λ_k has the derivative Σ_k m_k(u) in δ_k, as in `neural_tdc.rules.lambda_returns`. A
segment of n transitions gives the n-step truncated λ-return: choose n so that (γλ)^n is small.

Sources: Watkins 1989 for the traces; Elelimy et al. 2025 (arXiv 2507.09087) for gradient TD with λ
and networks; the form with two scalars is a reconstruction, tested against autograd.
"""

from jaxtyping import Float, Int
from torch import Tensor

from agents.dqn.batch import Batch
from neural_tdc.rules.lambda_returns import linear_scan


def carried_from_next(
    batch: Batch, best: Int[Tensor, "*batch"], trace_decay: float
) -> Float[Tensor, "*batch"] | None:
    """Return d, how much of what follows enters each transition; None where nothing does.

    best: the greedy action at each s'
    """
    if batch.follows is None or trace_decay == 0:
        return None
    greedy = batch.action.roll(-1, -1) == best
    return trace_decay * batch.discount * (batch.follows & greedy)


def from_later(
    value: Float[Tensor, "*batch"], carry: Float[Tensor, "*batch"] | None
) -> Float[Tensor, "*batch"]:
    """Return y with y_k = value_k + d_k·y_{k+1}."""
    if carry is None:
        return value
    rows = [each.movedim(-1, 0).flip(0) for each in (carry, value)]
    return linear_scan(*rows).flip(0).movedim(0, -1)


def from_earlier(
    value: Float[Tensor, "*batch"], carry: Float[Tensor, "*batch"] | None
) -> Float[Tensor, "*batch"]:
    """Return m with m_k = value_k + d_{k−1}·m_{k−1}."""
    if carry is None:
        return value
    # The last transition of a batch has no next one, so that its 0 may come first.
    return linear_scan(carry.roll(1, -1).movedim(-1, 0), value.movedim(-1, 0)).movedim(0, -1)
