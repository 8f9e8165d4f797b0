"""The first table: how a body learns, as two cotangents.

A body direction is (∂φ)ᵀc + (∂φ')ᵀc', one vector-Jacobian product of the pair (φ, φ'), and is
subtracted. Every entry of the table is the pair (c, c'), [batch, feature] each; None stands for
a cotangent that is 0 everywhere, whose product need not be taken.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms, outer

Cotangents = tuple[Tensor | None, Tensor | None]


def mspbe(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Descend the projected Bellman error: Algorithm 1 (arXiv 2605.15530), exact at ω = ω*."""
    weight = s.ratio * correction
    c = outer(s.ratio * s.td_error - correction, omega) - outer(weight, s.head)
    return c, outer(s.discount * weight, s.head)


def semi_gradient(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Follow the TD error with the target held still: TD (Sutton 1988)."""
    return outer(-s.ratio * s.td_error, s.head), None


def residual(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Descend the squared TD error: residual gradient (Baird 1995)."""
    weight = s.ratio * s.td_error
    return outer(-weight, s.head), outer(s.discount * weight, s.head)


def corrected(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Correct the semi-gradient by ω: neural TDRC (Ghiassian et al. 2020)."""
    return (
        outer(-s.ratio * s.td_error, s.head),
        outer(s.discount * s.ratio * correction, s.head),
    )


def generalized(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Descend the generalised projected Bellman error on a frozen ψ, correction = ω_ψᵀψ.

    Source: Patterson, White & White 2022, with a frozen linear class.
    """
    weight = s.ratio * correction
    return outer(-weight, s.head), outer(s.discount * weight, s.head)


def frozen(s: BatchTerms, omega: Tensor, correction: Tensor) -> Cotangents:
    """Leave the body as it is."""
    return None, None


class BodyRow(NamedTuple):
    """A row of the table.

    cotangents:    (sample, ω, the batch's inner products with ω) -> (c, c')
    reaches_next:  whether c' is not 0
    auxiliary:     names of the auxiliary vectors that can serve as ω, the first by preference
    """

    cotangents: Callable[[BatchTerms, Tensor, Tensor], Cotangents]
    reaches_next: bool
    auxiliary: tuple[str, ...] = ()


BODY_ROWS: dict[str, BodyRow] = {
    "mspbe": BodyRow(mspbe, True, ("tdc",)),
    "semi_gradient": BodyRow(semi_gradient, False),
    "residual": BodyRow(residual, True),
    "corrected": BodyRow(corrected, True, ("tdc", "tdrc")),
    "generalized": BodyRow(generalized, True, ("generalized",)),
    "frozen": BodyRow(frozen, False),
}
