"""Where a ReLU makes the reduced objective of a regression not weakly convex.

Two samples X = I₂, one hidden unit with the weights (w, 1), targets y = (y₁, y₂): the features are
σ(w) and σ(1), and Φ depends on the scalar w alone. With σ = ReLU, Φ is constant for w < 0 and has
the slope −y₁y₂/(2(2λ + 1)) just right of 0: for y₁y₂ > 0 a kink that points upwards, which no
parabola added to Φ makes convex, so that Φ is not weakly convex for any constant. One sample has no
such kink, since σ² is smooth there; it is the product σ(x₁ᵀw)σ(x₂ᵀw) of two samples that has one.
Found here; compare Lemma 5.1 of arXiv 2605.15530.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.stackelberg.problems import reduced_regression


def kinked_objective(
    weight: Float[Tensor, ""],
    ridge: float,
    activation: Callable[[Tensor], Tensor] = torch.relu,
    target: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, ""]:
    """Return Φ(w) of the regression (8) on the two samples."""
    features = activation(torch.stack([weight, torch.ones_like(weight)]))
    return reduced_regression(features[:, None], weight.new_tensor(target), ridge)


def right_slope(ridge: float, target: tuple[float, float] = (1.0, 1.0)) -> float:
    """Return the slope −y₁y₂/(2(2λ + 1)) of Φ just right of w = 0; the one left of it is 0."""
    return -target[0] * target[1] / (2 * (2 * ridge + 1))


def second_difference(
    function: Callable[[Tensor], Tensor], step: float, dtype: torch.dtype = torch.float64
) -> float:
    """Return (Φ(t) + Φ(−t) − 2Φ(0))/t².

    As t → 0 it stays above −ρ where Φ is ρ-weakly convex, and falls without bound at a kink that
    points upwards.
    """
    right, left, middle = (function(torch.tensor(at, dtype=dtype)) for at in (step, -step, 0.0))
    return float(right + left - 2 * middle) / step**2
