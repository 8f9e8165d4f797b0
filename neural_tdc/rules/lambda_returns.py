"""λ over segments of a stream, for bodies that learn: the forward view, by two scalars.

A batch is made of segments of consecutive transitions k = 0 … n−1 of one stream, one after another;
`Transition.first` is 1 where a segment or an episode begins, and nothing is carried over that place
or over a termination, where γ = 0. With γ_k the transition's own discount,

    δ^λ_k = ρ_k(δ_k + γ_k λ δ^λ_{k+1})             from 0 behind a segment's end
    m_k(u) = ρ_k(u_k + γ_{k−1} λ m_{k−1}(u))        from 0 before its start

and every row of `neural_tdc.rules.bodies`, `heads` and `auxiliaries` keeps its form, with δ^λ in
the place of ρδ and m(u) in that of ρu: Σ_k δ^λ_k u_k has the derivative Σ_k m_k(u) in δ_k, which
gives the gradients of the saddle form Σ_k δ^λ_k u_k − ½u_k² (mspbe, gtd2, generalized, and ω).

TDC's head and the `corrected` body replace ρuφ by ρδφ, and add what m(u) has of earlier
transitions, (m(u) − ρu)φ: at ω* that is the gradient in expectation, and at λ = 0 the row of λ = 0.
The residual rows descend ½ρ_k e_k², e_k = δ_k + γ_kλδ^λ_{k+1}, whose derivative in δ_k is m_k(e).
HTD's rows read m(u) without ratios as well. V-trace's clipped ratio stands for ρ everywhere: the
trace is cut as in V-trace with λ.

A segment of n transitions gives the n-step truncated λ-return: choose n so that (γλ)^n is small.

Source of the idea: Elelimy, Daley, Patterson, Machado, White & White 2025 (arXiv 2507.09087); the
form with two scalars is a reconstruction, tested against autograd.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts
from neural_tdc.rules.heads import HeadRow
from neural_tdc.rules.parts import PartState
from neural_tdc.rules.views import OneStepView, checked_decay
from neural_tdc.types import Transition


@dataclass(frozen=True)
class SegmentTerms(BatchTerms):
    """The terms of segments; `td_error` is e_k = δ_k + γ_kλδ^λ_{k+1}, so that `error` is δ^λ.

    carry: [batch] γ_{k−1}λ, and 0 where transition k does not continue k−1
    """

    carry: Tensor

    def weighted(self, value: Tensor) -> Tensor:
        """Return m(value), [batch]."""
        return linear_scan(self.ratio * self.carry, self.ratio * value)

    def carried(self, inner: InnerProducts) -> Tensor | None:
        """Return m(u) − ρu, [batch]."""
        return self.ratio * self.carry * delayed(inner.weighted, 1)

    def behaviour(self, inner: InnerProducts) -> Tensor:
        """Return m(u) without ratios, [batch]."""
        return linear_scan(self.carry, inner.value)

    def surplus(self, inner: InnerProducts) -> Tensor:
        """Return m(u) less the same without ratios, [batch]."""
        carried = self.carry * (
            self.ratio * delayed(inner.weighted, 1) - delayed(self.behaviour(inner), 1)
        )
        return (self.ratio - 1) * inner.value + carried


@dataclass(frozen=True)
class LambdaReturns(OneStepView):
    """λ over the segments of a batch.

    trace_decay: λ in (0, 1]
    """

    trace_decay: float = 0.0

    @property
    def decay(self) -> float:
        """Return λ."""
        return self.trace_decay

    def terms(self, s: BatchTerms, batch: Transition, state: PartState) -> BatchTerms:
        """Return the terms of λ from those of λ = 0; the batch's segments stand in a row."""
        carry = self._carry(batch)
        ahead = _advanced(carry)
        error = linear_scan((s.ratio * ahead).flip(0), (s.ratio * s.td_error).flip(0)).flip(0)
        reached = s.td_error + ahead * _advanced(error)
        return SegmentTerms(s.feature, s.next_feature, s.head, reached, s.ratio, s.discount, carry)

    def credit(self, feature: Tensor, batch: Transition, state: PartState) -> Tensor:
        """Return the eligibility trace z_k = ρ_k(φ_k + γ_{k−1}λz_{k−1}), [batch, feature]."""
        weight = batch.ratio[:, None]
        return linear_scan(weight * self._carry(batch)[:, None], weight * feature)

    def _carry(self, batch: Transition) -> Tensor:
        arriving = delayed(self.trace_decay * batch.discount, 1)
        return arriving if batch.first is None else (1 - batch.first) * arriving


def segment_view(decay: float, head: HeadRow) -> OneStepView:
    """Return the view with λ over segments of a stream, or of one step for a decay of 0.

    Raises ValueError where it is not defined for the head.
    """
    if not checked_decay(decay):
        return OneStepView()
    if not head.segmented:
        raise ValueError(f"trace_decay {decay:g} is not defined for the head {head.name!r}")
    return LambdaReturns(decay)


def linear_scan(
    coefficient: Float[Tensor, "batch *#rest"], value: Float[Tensor, "batch *rest"]
) -> Float[Tensor, "batch *rest"]:
    """Return x with x_k = value_k + coefficient_k x_{k−1}, from 0; in log₂(batch) operations.

    Source: Hillis & Steele 1986, "Data parallel algorithms".
    """
    shift = 1
    while shift < len(value):
        value = value + coefficient * delayed(value, shift)
        coefficient = coefficient * delayed(coefficient, shift)
        shift *= 2
    return value


def delayed(values: Tensor, by: int) -> Tensor:
    """Return the values [row, …] of the row `by` rows earlier, 0 for the first rows."""
    return torch.cat([torch.zeros_like(values[:by]), values[:-by]])


def _advanced(values: Tensor) -> Tensor:
    return torch.cat([values[1:], torch.zeros_like(values[:1])])
