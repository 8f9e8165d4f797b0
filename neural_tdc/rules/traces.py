"""Eligibility traces on given features: TD(λ), TDC(λ), GTD2(λ), TDRC(λ), HTD(λ) and LSTD(λ).

With λ the trace decay, γ_t the discount with which the transition before this one arrived here,
γ_{t+1} this transition's own, φ = φ(s), φ' = φ(s') and δ = r + γ_{t+1}θᵀφ' − θᵀφ without a ratio:

    z_t = ρ_t(γ_t λ z_{t−1} + φ_t), from 0 where an episode starts

    TD(λ)    θ += β δz
    TDC(λ)   θ += β(δz − γ_{t+1}(1−λ)(zᵀω)φ'),   ω += η(δz − (φᵀω)φ)
    GTD2(λ)  θ += β(φ − γ_{t+1}φ')(zᵀω),          ω as TDC(λ)
    TDRC(λ)  θ as TDC(λ),                          ω += η(δz − (φᵀω)φ − κω)
    HTD(λ)   θ += β(δz + (φ − γ_{t+1}φ')(z − y)ᵀω), ω += η(δz − (φ − γ_{t+1}φ')(yᵀω))
    LSTD(λ)  A = E[z(φ − γ_{t+1}φ')ᵀ], b = E[zr], θ = (A + εI)⁻¹b

These are the rows of `neural_tdc.rules.heads` and `auxiliaries` with m(u) = zᵀω, and with δz where
the one-step rows add ρδφ. The ratio stands before the bracket: ρ_t belongs to the action taken at
s_t, and thereby weighs δ_t and everything that is carried on. y_t = γ_t λ y_{t−1} + φ_t is the
behaviour's own trace, without ratios. In HTD(λ)'s form this makes ω* the solution of
E[y(φ − γφ')ᵀ]ᵀω = E[δz], and on-policy, where y = z, it is TD(λ).

The updates with a trace are those of the forward view: summed over an episode with θ held still,
δ_t z_t is (G_t − θᵀφ_t)φ_t with the λ-return with control variates
G_t = ρ_t(r_t + γ_{t+1}[(1−λ)θᵀφ' + λG_{t+1}]) + (1 − ρ_t)θᵀφ_t, the usual one on-policy.

An episode ends in one of two ways. Where it terminated, γ = 0 cuts the trace. Where it was cut by
a time limit γ is not 0, and the trace begins anew only because the next transition says `first`:
the λ-return of the cut episode then ends in r + γθᵀφ' at its last transition, as if λ were 0 there,
and nothing of it reaches the next episode. For λ near 1 that moves the fixed point towards the one
of λ = 0, and the shift of E[φ_t z_tᵀ] by one step that turns GTD2(λ)'s direction into TDC(λ)'s
holds no longer exactly; TDC(λ)'s fixed point, E[δz] = 0, is that of TD(λ) and LSTD(λ) all the same.

Sources: TD(λ): Sutton 1988; the ratios and TDC(λ) = GTD(λ): Maei 2011, and Sutton & Barto 2018,
(12.22), (12.25) and section 12.11; LSTD(λ): Boyan 2002, with ratios Yu 2010; HTD(λ): White & White
2016. GTD2(λ), the direction Aᵀω as it stands before TDC(λ)'s rewriting, and TDRC(λ), TDC(λ) with
TDRC's κ (Ghiassian et al. 2020), are reconstructions.

A trace is made of features that must stay as they are, and follows one ordered stream: it is
defined where the body does not learn, for batches of one transition.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.rules.batch_terms import (
    BatchTerms,
    InnerProducts,
    RowWeights,
    weighted_mean,
    with_next,
)
from neural_tdc.rules.heads import HeadRow
from neural_tdc.rules.parts import Context, PartState
from neural_tdc.rules.views import OneStepView, checked_decay
from neural_tdc.types import Parameters, Transition

# The names in the state: z, y and λγ, by which the next transition multiplies both.
TRACE, BEHAVIOUR, CARRY = "eligibility", "behaviour", "carry"


@dataclass(frozen=True)
class TracedTerms(BatchTerms):
    """One transition with its traces; `td_error` is δ, which z weighs.

    trace, behaviour_trace: z and y, [batch, feature]; y only for a rule that reads it
    trace_decay:            λ
    """

    trace: Tensor
    behaviour_trace: Tensor | None
    trace_decay: float

    def inner_products(
        self, space: Tensor, omega: Tensor, feature_part: Tensor | None
    ) -> InnerProducts:
        """Return the inner products [batch] with ω, of which m(u) = zᵀω; see `BatchTerms`."""
        return InnerProducts(omega, feature_part, space @ omega, self.trace @ omega)

    def settled(self, inner: InnerProducts) -> Tensor:
        """Return (1 − λ)zᵀω, [batch].

        The rest of m(u) is carried to the next transition, whose φ is the present φ'.
        """
        return (1 - self.trace_decay) * inner.weighted

    def behaviour(self, inner: InnerProducts) -> Tensor:
        """Return yᵀω, [batch]."""
        assert self.behaviour_trace is not None
        return self.behaviour_trace @ inner.omega

    def surplus(self, inner: InnerProducts) -> Tensor:
        """Return (z − y)ᵀω, [batch]."""
        assert self.behaviour_trace is not None
        return (self.trace - self.behaviour_trace) @ inner.omega

    def added(self, row: RowWeights, space: Tensor) -> Tensor:
        """Return what a row adds, [size], with δz for the weighted error; see `BatchTerms`."""
        parts = [weighted_mean(self.td_error, self.trace)] if row.error else []
        if row.feature is not None:
            parts.append(weighted_mean(row.feature, space))
        return with_next(sum(parts[1:], parts[0]), row, self.next_feature)


@dataclass(frozen=True)
class EligibilityTraces(OneStepView):
    """λ by the backward view.

    trace_decay: λ in (0, 1]
    behaviour:   whether y is kept next to z

    State: z [1, feature], y where it is kept, and λγ [1].
    """

    ordered: ClassVar[bool] = True

    trace_decay: float = 0.0
    behaviour: bool = False

    @property
    def decay(self) -> float:
        """Return λ."""
        return self.trace_decay

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> PartState:
        """Return the traces of a stream that has not begun: 0; see `Part.init`."""
        head = parameters.head
        names = (TRACE, BEHAVIOUR) if self.behaviour else (TRACE,)
        return {
            **{name: head.new_zeros(1, len(head)) for name in names},
            CARRY: head.new_zeros(1),
        }

    def update(self, context: Context, state: PartState) -> PartState:
        """Take in one transition; see `moved_traces`."""
        feature = context.features(context.parameters.body, context.batch.observation)
        return moved_traces(state, feature, context.batch, self.trace_decay)

    def terms(self, s: BatchTerms, batch: Transition, state: PartState) -> BatchTerms:
        """Return the terms with the traces."""
        traces = (state[TRACE], state.get(BEHAVIOUR), self.trace_decay)
        return TracedTerms(
            s.feature, s.next_feature, s.head, s.td_error, s.ratio, s.discount, *traces
        )

    def credit(self, feature: Tensor, batch: Transition, state: PartState) -> Tensor:
        """Return z, [batch, feature]."""
        trace: Tensor = state[TRACE]
        return trace


def moved_traces(
    traces: PartState, feature: Float[Tensor, "batch feature"], batch: Transition, decay: float
) -> PartState:
    """Return the traces after one more transition; ValueError for a batch of more than one.

    feature: φ at the batch's observations
    decay:   λ
    """
    if len(batch.reward) != 1:
        raise ValueError(
            f"trace_decay {decay:g} needs an ordered stream and batch 1, not batch "
            f"{len(batch.reward)}"
        )
    carried = traces[CARRY] if batch.first is None else (1 - batch.first) * traces[CARRY]
    moved = {name: carried[:, None] * traces[name] + feature for name in traces if name != CARRY}
    moved[TRACE] = batch.ratio[:, None] * moved[TRACE]
    return {**moved, CARRY: decay * batch.discount}


def traced_view(decay: float, head: HeadRow) -> OneStepView:
    """Return the view with eligibility traces of this decay, or without for a decay of 0.

    Raises ValueError where they are not defined for the head.
    """
    if not checked_decay(decay):
        return OneStepView()
    if not head.traced:
        raise ValueError(
            f"trace_decay {decay:g} is not defined for the head {head.name!r}, only for td, tdc, "
            "gtd2, tdrc, htd and lstd"
        )
    behaviour = head.auxiliary is not None and head.auxiliary.behaviour
    return EligibilityTraces(decay, behaviour)
