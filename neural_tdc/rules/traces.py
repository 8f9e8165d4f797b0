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

The ratio stands before the bracket: ρ_t belongs to the action taken at s_t, and thereby weighs δ_t
and everything that is carried on. y_t = γ_t λ y_{t−1} + φ_t is the behaviour's own trace, without
ratios. In HTD(λ)'s form this makes ω* the solution of E[y(φ − γφ')ᵀ]ᵀω = E[δz], and on-policy,
where y = z, it is TD(λ). At λ = 0 all are the rows of `neural_tdc.rules.heads`.

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

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms, weighted_mean
from neural_tdc.types import Transition

Traces = dict[str, Tensor]

# The names in a rule's memory: z, y and λγ, by which the next transition multiplies both.
TRACE, BEHAVIOUR, CARRY = "eligibility", "behaviour", "carry"


def check(decay: float, head: str) -> None:
    """Raise ValueError where a trace of this decay is not defined for this row of heads."""
    if not 0 <= decay <= 1:
        raise ValueError(f"trace_decay {decay:g} is not allowed: give a number from 0 to 1")
    if decay and head not in HEAD_ROWS and head != "lstd":
        raise ValueError(
            f"trace_decay {decay:g} is not defined for the head {head!r}, only for "
            f"{', '.join(HEAD_ROWS)} and lstd"
        )


def initial_traces(head: Float[Tensor, " feature"], head_row: str) -> Traces:
    """Return the traces of a stream that has not begun, in the dtype and device of the head."""
    names = (TRACE, BEHAVIOUR) if head_row == "htd" else (TRACE,)
    traces = {name: head.new_zeros(1, len(head)) for name in names}
    return {**traces, CARRY: head.new_zeros(1)}


def follow(
    traces: Traces, feature: Float[Tensor, "batch feature"], batch: Transition, decay: float
) -> Traces:
    """Move the traces on by one transition; ValueError for a batch of more than one.

    feature: φ at the batch's observations
    decay:   λ
    """
    if len(batch.reward) != 1:
        raise ValueError(
            f"trace_decay {decay:g} wants an ordered stream of batch 1, not {len(batch.reward)}"
        )
    carried = traces[CARRY] if batch.first is None else (1 - batch.first) * traces[CARRY]
    moved = {name: carried[:, None] * traces[name] + feature for name in traces if name != CARRY}
    moved[TRACE] = batch.ratio[:, None] * moved[TRACE]
    return {**moved, CARRY: decay * batch.discount}


def td(s: BatchTerms, traces: Traces, decay: float, omega: Tensor) -> Tensor:
    """TD(λ): δz."""
    return weighted_mean(s.td_error, traces[TRACE])


def tdc(s: BatchTerms, traces: Traces, decay: float, omega: Tensor) -> Tensor:
    """TDC(λ): δz − γ(1−λ)(zᵀω)φ'."""
    correction = (1 - decay) * (traces[TRACE] @ omega)
    return weighted_mean(s.td_error, traces[TRACE]) - weighted_mean(
        s.discount * correction, s.next_feature
    )


def gtd2(s: BatchTerms, traces: Traces, decay: float, omega: Tensor) -> Tensor:
    """GTD2(λ): (φ − γφ')(zᵀω)."""
    return _along_difference(s, traces[TRACE] @ omega)


def htd(s: BatchTerms, traces: Traces, decay: float, omega: Tensor) -> Tensor:
    """HTD(λ): δz + (φ − γφ')(z − y)ᵀω."""
    weight = (traces[TRACE] - traces[BEHAVIOUR]) @ omega
    return weighted_mean(s.td_error, traces[TRACE]) + _along_difference(s, weight)


def covariance_auxiliary(s: BatchTerms, traces: Traces, omega: Tensor) -> Tensor:
    """TDC(λ)'s auxiliary vector: δz − (φᵀω)φ, whose fixed point is C⁻¹E[δz]."""
    return weighted_mean(s.td_error, traces[TRACE]) - weighted_mean(s.feature @ omega, s.feature)


def behaviour_auxiliary(s: BatchTerms, traces: Traces, omega: Tensor) -> Tensor:
    """HTD(λ)'s auxiliary vector: δz − (φ − γφ')(yᵀω)."""
    return weighted_mean(s.td_error, traces[TRACE]) - _along_difference(
        s, traces[BEHAVIOUR] @ omega
    )


def _along_difference(s: BatchTerms, weight: Tensor) -> Tensor:
    return weighted_mean(weight, s.feature) - weighted_mean(s.discount * weight, s.next_feature)


# As in `neural_tdc.rules.heads`: what is added to θ, and to the auxiliary vector of that name.
HEAD_ROWS: dict[str, Callable[[BatchTerms, Traces, float, Tensor], Tensor]] = {
    "td": td,
    "tdc": tdc,
    "gtd2": gtd2,
    "tdrc": tdc,
    "htd": htd,
}

AUXILIARY_ROWS: dict[str, Callable[[BatchTerms, Traces, Tensor], Tensor]] = {
    "tdc": covariance_auxiliary,
    "tdrc": covariance_auxiliary,
    "htd": behaviour_auxiliary,
}
