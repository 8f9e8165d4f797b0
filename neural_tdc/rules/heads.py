"""The second table: how a head and its auxiliary vector learn.

Every entry is what is *added* to θ, or to the auxiliary vector, after multiplication by its step
size, as a mean over the batch. `correction` is the batch's inner products with the auxiliary
vector, φᵀω (ψᵀω_ψ for the `generalized` row).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms, weighted_mean


def td(s: BatchTerms, correction: Tensor) -> Tensor:
    """TD (Sutton 1988): ρδφ. Also V-trace and emphatic TD, which weigh the sample otherwise."""
    return weighted_mean(s.ratio * s.td_error, s.feature)


def residual(s: BatchTerms, correction: Tensor) -> Tensor:
    """Residual gradient (Baird 1995): ρδ(φ − γ_tφ'). From single samples it minimises RMSTDE."""
    return weighted_mean(s.ratio * s.td_error, s.feature) - weighted_mean(
        s.discount * s.ratio * s.td_error, s.next_feature
    )


def gtd2(s: BatchTerms, correction: Tensor) -> Tensor:
    """GTD2 (Sutton et al. 2009): ρ(φ − γ_tφ')(φᵀω)."""
    return weighted_mean(s.ratio * correction, s.feature) - weighted_mean(
        s.discount * s.ratio * correction, s.next_feature
    )


def tdc(s: BatchTerms, correction: Tensor) -> Tensor:
    """TDC (Sutton et al. 2009): ρ(δφ − γ_tφ'(φᵀω))."""
    return weighted_mean(s.ratio * s.td_error, s.feature) - weighted_mean(
        s.discount * s.ratio * correction, s.next_feature
    )


def htd(s: BatchTerms, correction: Tensor) -> Tensor:
    """HTD (Hackman 2012, White & White 2016): ρδφ + (ρ−1)(φ − γ_tφ')(φᵀω)."""
    weight = (s.ratio - 1) * correction
    return weighted_mean(s.ratio * s.td_error + weight, s.feature) - weighted_mean(
        s.discount * weight, s.next_feature
    )


def covariance_auxiliary(s: BatchTerms, feature: Tensor, correction: Tensor) -> Tensor:
    """TDC's auxiliary vector: (ρδ − φᵀω)φ, whose fixed point is ω* = C⁻¹E[ρδφ]."""
    return weighted_mean(s.ratio * s.td_error - correction, feature)


def behaviour_auxiliary(s: BatchTerms, feature: Tensor, correction: Tensor) -> Tensor:
    """HTD's auxiliary vector: ρδφ − (φ − γ_tφ')(φᵀω), on the behaviour policy's own A."""
    return covariance_auxiliary(s, feature, correction) + weighted_mean(
        s.discount * correction, s.next_feature
    )


class HeadRow(NamedTuple):
    """A row of the table.

    direction:  (sample, correction) -> what is added to θ; None for a best response
    auxiliary:  name of the auxiliary vector it keeps, None for none
    partners:   the bodies it may stand beside, None for all
    """

    direction: Callable[[BatchTerms, Tensor], Tensor] | None
    auxiliary: str | None = None
    partners: tuple[str, ...] | None = None


# V-trace and emphatic TD weigh the sample of head and body alike: only TD's own body makes sense.
HEAD_ROWS: dict[str, HeadRow] = {
    "td": HeadRow(td),
    "vtrace": HeadRow(td, partners=("semi_gradient", "frozen")),
    "residual": HeadRow(residual),
    "gtd2": HeadRow(gtd2, "tdc"),
    "tdc": HeadRow(tdc, "tdc"),
    "tdrc": HeadRow(tdc, "tdrc"),
    "htd": HeadRow(htd, "htd"),
    "etd": HeadRow(td, partners=("semi_gradient", "frozen")),
    "generalized": HeadRow(gtd2, "generalized"),
    "lstd": HeadRow(None),
}

AUXILIARY_ROWS: dict[str, Callable[[BatchTerms, Tensor, Tensor], Tensor]] = {
    "tdc": covariance_auxiliary,
    "tdrc": covariance_auxiliary,
    "htd": behaviour_auxiliary,
    "generalized": covariance_auxiliary,
}
