"""The two-direction landscape grid of f(·, θ) and of Φ around the present body.

W = W_k + aU + bV on a grid of (a, b), with the head held at θ_k, held at θ*(W_k), or solved for at
every point. Source: Figure 1 of arXiv 2605.15530, after Chen et al. (2023).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.stackelberg.hessians import flatten
from neural_tdc.stackelberg.problems import StackelbergProblem, reduced_objective


class Landscape(NamedTuple):
    """Three surfaces over the same grid, [first, second]: entry [i, j] is at W_k + aᵢU + aⱼV.

    coefficients: [grid] a
    joint:        f(·, θ_k)
    frozen:       f(·, θ*(W_k)), the head answering the centre only
    solved:       Φ, the head answering every point
    """

    coefficients: Tensor
    joint: Tensor
    frozen: Tensor
    solved: Tensor


def random_directions(body: Any, generator: torch.Generator, *, relative: bool = False) -> tuple:
    """Draw two orthogonal directions U, V like the body, each of norm 1.

    relative: each of the body's own norm instead, so that a coefficient of 1 is 100 %
    Drawn on the CPU. Raises ValueError for a body of fewer than two parameters.
    """
    vector, restore = flatten(body)
    if len(vector) < 2:
        raise ValueError("two directions need a body of at least two parameters")
    normal = torch.randn(len(vector), 2, generator=generator, dtype=torch.float64)
    pair = torch.linalg.qr(normal).Q.to(vector)
    length = vector.norm() if relative else 1.0
    return restore(length * pair[:, 0]), restore(length * pair[:, 1])


def surface(
    function: Callable[[Any], Tensor],
    body: Any,
    first: Any,
    second: Any,
    coefficients: Float[Tensor, " grid"],
) -> Float[Tensor, "grid grid"]:
    """Evaluate a scalar function of the body at W + aᵢU + aⱼV for all i and j.

    body, first, second: W, U and V, trees of tensors of the same shapes
    coefficients:        the numbers a
    """
    centre, restore = flatten(body)
    along, across = flatten(first)[0], flatten(second)[0]
    with torch.no_grad():
        rows = [
            torch.stack([function(restore(centre + a * along + b * across)) for b in coefficients])
            for a in coefficients
        ]
    return torch.stack(rows)


def landscape(
    problem: StackelbergProblem,
    body: Any,
    head: Tensor,
    first: Any,
    second: Any,
    coefficients: Float[Tensor, " grid"],
) -> Landscape:
    """Evaluate f(·, θ_k), f(·, θ*(W_k)) and Φ over the plane of two directions.

    head: θ_k; first, second: U and V, like the body; coefficients: a, the same for both axes
    """
    with torch.no_grad():
        best = problem.best_response(body)
    return Landscape(
        coefficients,
        surface(lambda moved: problem.objective(moved, head), body, first, second, coefficients),
        surface(lambda moved: problem.objective(moved, best), body, first, second, coefficients),
        surface(lambda moved: reduced_objective(problem, moved), body, first, second, coefficients),
    )
