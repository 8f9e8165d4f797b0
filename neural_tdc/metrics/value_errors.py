"""Errors of a linear value function, from second moments that may be exact or estimated.

Every function takes one run, unbatched, and is made of operations that `torch.vmap` batches over
runs. Everything is computed in the dtype given; pass float64. Only finite numbers may come in: a
decomposition of a matrix with a NaN raises, and takes the healthy runs of its batch with it, so
diverged runs must be left out (or replaced by zeros) before.

Pseudo-inverses cut at 1e-10 of the largest eigenvalue (of C) or singular value (of A). They are
for measuring: their derivatives are not defined where eigenvalues coincide, so do not
differentiate an error with respect to the features; `MarkovChain.mspbe_gradients` does that.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

CUT = 1e-10


class Moments(NamedTuple):
    """The second moments of a linear value function V = θᵀφ on given features.

    A:  [d, d] E[ρφ(φ − γ_tφ')ᵀ]
    b0: [d] E[ρrφ]
    C:  [d, d] E[φφᵀ], without the ratio ρ
    """

    A: Tensor
    b0: Tensor
    C: Tensor


class Spectrum(NamedTuple):
    """The eigenvalues of a symmetric matrix, the smallest first, and its eigenvectors."""

    values: Tensor
    vectors: Tensor


def spectrum(C: Float[Tensor, "d d"]) -> Spectrum:
    """Return the eigenvalues and eigenvectors of C."""
    return Spectrum(*torch.linalg.eigh(C))


def _reciprocals(values: Float[Tensor, " d"], largest: Float[Tensor, ""]) -> Float[Tensor, " d"]:
    kept = values > CUT * largest
    return torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)


def solve_symmetric(
    of: Spectrum, x: Float[Tensor, " d"], regulariser: float | Float[Tensor, ""] = 0.0
) -> Float[Tensor, " d"]:
    """Return (C + εI)⁺x, with the spectrum of C and ε the regulariser."""
    values = of.values + regulariser
    return of.vectors @ (_reciprocals(values, values[-1]) * (of.vectors.mT @ x))


def expected_update(moments: Moments, head: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Return b = E[ρδφ] = b₀ − Aθ."""
    return moments.b0 - moments.A @ head


def mspbe(moments: Moments, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return the mean squared projected Bellman error J = bᵀC⁺b, b = E[ρδφ] = b₀ − Aθ.

    In squared units of value. Source: Sutton et al. 2009, "Fast gradient-descent methods for
    temporal-difference learning", equation 5.
    """
    b = expected_update(moments, head)
    # C⁺ is positive semidefinite; a tiny negative number can only be rounding.
    return (b @ solve_symmetric(spectrum(moments.C), b)).clamp(min=0)


def td_fixed_point(moments: Moments) -> Float[Tensor, " d"]:
    """Return θ_TD = A⁺b₀, the head that LSTD computes (Bradtke & Barto 1996)."""
    left, values, right = torch.linalg.svd(moments.A)
    return right.mT @ (_reciprocals(values, values[0]) * (left.mT @ moments.b0))


def auxiliary_solution(
    moments: Moments, head: Float[Tensor, " d"], regulariser: float | Float[Tensor, ""] = 0.0
) -> Float[Tensor, " d"]:
    """Return ω* = (C + εI)⁺(b₀ − Aθ), where the auxiliary vector of TDC settles for a fixed head.

    regulariser: ε ≥ 0, in the units of C (1 for TDRC's κ = 1).
    """
    b = expected_update(moments, head)
    return solve_symmetric(spectrum(moments.C), b, regulariser)


def best_linear(
    features: Float[Tensor, "state d"],
    weighting: Float[Tensor, " state"],
    value: Float[Tensor, " state"],
) -> Float[Tensor, " d"]:
    """Return the head whose values are nearest to `value` in the weighted least-squares sense."""
    weighted = features * weighting[:, None]
    return solve_symmetric(spectrum(weighted.mT @ features), weighted.mT @ value)


def rmsve(
    values: Float[Tensor, " state"],
    value: Float[Tensor, " state"],
    weighting: Float[Tensor, " state"],
    squared_error_of_truth: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, ""]:
    """Return the root mean squared value error √Σ d(s)(V(s) − v(s))², in units of value.

    values: [state] the estimates V; value: [state] the truth v; weighting: [state] d, sums to 1.
    squared_error_of_truth: where v is itself a Monte Carlo estimate, the weighted mean of its
    squared standard errors. It adds to the mean squared difference, so it is subtracted, and the
    result is cut off at 0.
    """
    squared = (weighting * (values - value).square()).sum()
    return (squared - squared_error_of_truth).clamp(min=0).sqrt()


def effective_rank(eigenvalues: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return exp of the entropy of the normalised singular values of D^½Φ, 0 if all are 0.

    eigenvalues: of C = ΦᵀDΦ; the singular values are their square roots, and the result lies
    between 1 and d. Source: Roy & Vetterli 2007, "The effective rank", definition 1.
    """
    singular = eigenvalues.clamp(min=0).sqrt()
    total = singular.sum()
    shares = singular / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, torch.exp(-torch.xlogy(shares, shares).sum()), 0.0)


def norm_in_values(moments: Moments, x: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return ‖Φx‖_d = √(xᵀCx): the size of a head or auxiliary vector, in units of value."""
    return (x @ moments.C @ x).clamp(min=0).sqrt()
