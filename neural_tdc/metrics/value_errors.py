"""What judges a value function, from second moments that may be exact or estimated.

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


class _Spectrum(NamedTuple):
    values: Tensor
    vectors: Tensor


def _spectrum(C: Float[Tensor, "d d"]) -> _Spectrum:
    return _Spectrum(*torch.linalg.eigh(C))


def _reciprocals(values: Float[Tensor, " d"], largest: Float[Tensor, ""]) -> Float[Tensor, " d"]:
    kept = values > CUT * largest
    return torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)


def _solve_symmetric(
    spectrum: _Spectrum, x: Float[Tensor, " d"], regulariser: float | Float[Tensor, ""] = 0.0
) -> Float[Tensor, " d"]:
    values = spectrum.values + regulariser
    return spectrum.vectors @ (_reciprocals(values, values[-1]) * (spectrum.vectors.mT @ x))


def _size(C: Float[Tensor, "d d"], x: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    return (x @ C @ x).clamp(min=0).sqrt()


def _expected_update(moments: Moments, head: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    return moments.b0 - moments.A @ head


def mspbe(moments: Moments, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return the mean squared projected Bellman error J = bᵀC⁺b, b = E[ρδφ] = b₀ − Aθ.

    In squared units of value. Source: Sutton et al. 2009, "Fast gradient-descent methods for
    temporal-difference learning", equation 5.
    """
    b = _expected_update(moments, head)
    # C⁺ is positive semidefinite; a tiny negative number can only be rounding.
    return (b @ _solve_symmetric(_spectrum(moments.C), b)).clamp(min=0)


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
    b = _expected_update(moments, head)
    return _solve_symmetric(_spectrum(moments.C), b, regulariser)


def best_linear(
    features: Float[Tensor, "state d"],
    weighting: Float[Tensor, " state"],
    value: Float[Tensor, " state"],
) -> Float[Tensor, " d"]:
    """Return the head whose values are nearest to `value` in the weighted least-squares sense."""
    weighted = features * weighting[:, None]
    return _solve_symmetric(_spectrum(weighted.mT @ features), weighted.mT @ value)


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


def smallest_eigenvalue(C: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return the smallest eigenvalue of the positive semidefinite C, at least 0."""
    return torch.linalg.eigvalsh(C)[0].clamp(min=0)


def _effective_rank(eigenvalues: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    singular = eigenvalues.clamp(min=0).sqrt()
    total = singular.sum()
    shares = singular / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, torch.exp(-torch.xlogy(shares, shares).sum()), 0.0)


def effective_rank(C: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return exp of the entropy of the normalised singular values of D^½Φ, 0 if C is 0.

    These singular values are the square roots of the eigenvalues of C = ΦᵀDΦ; the result lies
    between 1 and d. Source: Roy & Vetterli 2007, "The effective rank", definition 1.
    """
    return _effective_rank(torch.linalg.eigvalsh(C))


def norm_in_values(moments: Moments, x: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return ‖Φx‖_d = √(xᵀCx): the size of a head or auxiliary vector, in units of value."""
    return _size(moments.C, x)


def measure(
    moments: Moments,
    features: Float[Tensor, "state d"],
    weighting: Float[Tensor, " state"],
    value: Float[Tensor, " state"],
    squared_error_of_truth: float | Float[Tensor, ""],
    head: Float[Tensor, " d"],
    auxiliary: Float[Tensor, " d"] | None = None,
    regulariser: float | Float[Tensor, ""] = 0.0,
) -> dict[str, Tensor]:
    """Return every error of one run as a dict of scalar tensors, in units of value.

    rmsve                     the error of V = Φθ
    rmspbe                    the root of the MSPBE
    lstd_rmsve                the error of the TD fixed point on these features, which judges them
    best_linear_rmsve         the least error of any head on these features, which judges them
    head_tracking_error       ‖Φ(θ − θ_TD)‖_d
    auxiliary_tracking_error  ‖Φ(ω − ω*)‖_d, ω* with the regulariser; only with an auxiliary vector
    auxiliary_size            ‖Φω*‖_d; only with an auxiliary vector
    smallest_eigenvalue       of C (squared units of the features)
    effective_rank            of D^½Φ (no unit)

    features, weighting, value: [state, d], [state], [state] at the states where the truth is
    known, and `squared_error_of_truth` as in `rmsve`; moments: [d, d], [d], [d, d] need not come
    from these states. A diverged run, with a NaN or an infinity anywhere, must never be passed:
    the decompositions raise on it.
    """
    spectrum = _spectrum(moments.C)
    b = _expected_update(moments, head)
    fixed_point = td_fixed_point(moments)
    linear = best_linear(features, weighting, value)

    def error(candidate: Tensor) -> Tensor:
        return rmsve(features @ candidate, value, weighting, squared_error_of_truth)

    errors = {
        "rmsve": error(head),
        "rmspbe": (b @ _solve_symmetric(spectrum, b)).clamp(min=0).sqrt(),
        "lstd_rmsve": error(fixed_point),
        "best_linear_rmsve": error(linear),
        "head_tracking_error": _size(moments.C, head - fixed_point),
        "smallest_eigenvalue": spectrum.values[0].clamp(min=0),
        "effective_rank": _effective_rank(spectrum.values),
    }
    if auxiliary is not None:
        solution = _solve_symmetric(spectrum, b, regulariser)
        errors["auxiliary_tracking_error"] = _size(moments.C, auxiliary - solution)
        errors["auxiliary_size"] = _size(moments.C, solution)
    return errors
