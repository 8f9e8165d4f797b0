"""The first table: how a body learns, as two cotangents.

A body direction is (∂φ)ᵀc + (∂φ')ᵀc', one vector-Jacobian product of the pair (φ, φ'), and is
subtracted. Every row gives the pair (c, c'), [batch, feature] each; None stands for a cotangent
that is 0 everywhere, whose product need not be taken.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from neural_tdc.rules.auxiliaries import AuxiliaryRow, CovarianceAuxiliary
from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts, outer, plus
from neural_tdc.rules.parts import Part, PartState
from neural_tdc.rules.projection_features import ProjectionAuxiliary

Cotangents = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class BodyRow(Part):
    """How a body learns.

    name:           as in `body+head`
    learns:         whether it does
    reaches_next:   whether c' is not 0
    reads:          names of the auxiliary vectors that can serve as ω, by preference; where the
                    head keeps none of them, `auxiliary` is kept next to the head's
    any_weight:     whether the row is defined for another weight of a sample than ρ
    rests_at_best_response: whether it does not move where the head is a best response
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = True
    reaches_next: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ()
    any_weight: ClassVar[bool] = False
    rests_at_best_response: ClassVar[bool] = False
    auxiliary: AuxiliaryRow | None = None

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> Cotangents:
        """Return (c, c') of a batch; inner: of the auxiliary vector that the row reads, if any."""
        raise NotImplementedError


@dataclass(frozen=True)
class SemiGradientBody(BodyRow):
    """Follow the TD error with the target held still: TD (Sutton 1988)."""

    name: ClassVar[str] = "semi_gradient"
    reaches_next: ClassVar[bool] = False
    any_weight: ClassVar[bool] = True

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> Cotangents:
        """Return (−ρδθ, 0)."""
        return outer(-s.error, s.head), None


@dataclass(frozen=True)
class ResidualBody(BodyRow):
    """Descend the squared TD error: residual gradient (Baird 1995)."""

    name: ClassVar[str] = "residual"

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> Cotangents:
        """Return (−m(δ)θ, γm(δ)θ)."""
        return _through_head(s, s.weighted(s.td_error))


@dataclass(frozen=True)
class MspbeBody(BodyRow):
    """Descend the projected Bellman error: Algorithm 1 (arXiv 2605.15530), exact at ω = ω*."""

    name: ClassVar[str] = "mspbe"
    reads: ClassVar[tuple[str, ...]] = ("tdc",)
    rests_at_best_response: ClassVar[bool] = True
    auxiliary: AuxiliaryRow | None = field(default_factory=CovarianceAuxiliary)

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> tuple[Tensor, Tensor]:
        """Return ((ρδ − u)ω − m(u)θ, γm(u)θ), where of ω only what belongs to φ counts."""
        assert inner is not None
        c, c_next = _through_head(s, inner.weighted)
        if inner.feature_part is not None:
            c = c + outer(s.error - inner.value, inner.feature_part)
        return c, c_next


@dataclass(frozen=True)
class GeneralizedBody(MspbeBody):
    """Descend the generalised projected Bellman error on a frozen ψ, u = ω_ψᵀψ.

    Source: Patterson, White & White 2022, with a frozen linear class.
    """

    name: ClassVar[str] = "generalized"
    reads: ClassVar[tuple[str, ...]] = ("generalized",)
    rests_at_best_response: ClassVar[bool] = False
    auxiliary: AuxiliaryRow | None = field(default_factory=ProjectionAuxiliary)


@dataclass(frozen=True)
class CorrectedBody(BodyRow):
    """Correct the semi-gradient by ω: neural TDRC (Ghiassian et al. 2020)."""

    name: ClassVar[str] = "corrected"
    reads: ClassVar[tuple[str, ...]] = ("tdc", "tdrc")
    auxiliary: AuxiliaryRow | None = field(default_factory=CovarianceAuxiliary)

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> Cotangents:
        """Return (−ρδθ, γm(u)θ)."""
        assert inner is not None
        weight = plus(s.error, s.carried(inner))
        return outer(-weight, s.head), outer(s.discount * inner.weighted, s.head)


@dataclass(frozen=True)
class FrozenBody(BodyRow):
    """Leave the body as it is."""

    name: ClassVar[str] = "frozen"
    learns: ClassVar[bool] = False
    reaches_next: ClassVar[bool] = False
    any_weight: ClassVar[bool] = True

    def cotangents(
        self, s: BatchTerms, inner: InnerProducts | None, state: PartState
    ) -> Cotangents:
        """Return (0, 0)."""
        return None, None


def _through_head(s: BatchTerms, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return (−weight θ, γ weight θ)."""
    return outer(-weight, s.head), outer(s.discount * weight, s.head)
