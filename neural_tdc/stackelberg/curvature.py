"""Curvature of a loss by Hessian-vector products: largest eigenvalue and trace.

The Hessians are in `neural_tdc.stackelberg.hessians`.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.stackelberg.hessians import Operator, hessian_operator, reduced_hessian_operator
from neural_tdc.stackelberg.problems import StackelbergProblem
from neural_tdc.types import Parameters


class Eigenpair(NamedTuple):
    """An extreme eigenvalue.

    value:    the eigenvalue (a Ritz value: never above the largest, never below the smallest)
    vector:   [size] its unit eigenvector
    residual: ‖Hv − λv‖, which bounds the distance of λ to the nearest eigenvalue
    products: Hessian-vector products spent
    """

    value: float
    vector: Tensor
    residual: float
    products: int


class TraceEstimate(NamedTuple):
    """A trace by random probes: the mean over the probes and the standard error of it."""

    mean: float
    standard_error: float


class Curvature(NamedTuple):
    """What the paper plots of a Hessian: its largest eigenvalue and its trace."""

    largest: Eigenpair
    trace: TraceEstimate


def extreme_eigenvalue(
    operator: Operator,
    generator: torch.Generator,
    *,
    which: Literal["largest", "smallest"] = "largest",
    tolerance: float = 1e-6,
    products: int = 100,
) -> Eigenpair:
    """Find the largest or smallest eigenvalue by Lanczos with full reorthogonalisation.

    tolerance: on the residual, relative to the spectral radius seen so far
    products:  at most so many Hessian-vector products; their vectors are kept, [products, size]

    A result short of the tolerance is returned with its residual, which says so. The start vector
    is drawn on the CPU. Source: Lanczos (1950); Golub and Van Loan, section 10.1.
    """
    size = len(operator.like)
    limit = min(size, products)
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(operator.like)
    basis = operator.like.new_empty(limit, size)
    basis[0] = start / start.norm()
    diagonal: list[float] = []
    beside: list[float] = []
    weights = torch.ones(1, dtype=torch.float64)
    for step in range(limit):
        image = operator.product(basis[step])
        diagonal.append(float(image @ basis[step]))
        vectors = basis[: step + 1]
        # Twice: once leaves components of the size of the rounding error of a large cancellation.
        for _ in range(2):
            image = image - vectors.mT @ (vectors @ image)
        length = float(image.norm())
        off_diagonal = torch.tensor(beside, dtype=torch.float64)
        upper = torch.diag(off_diagonal, diagonal=1)
        tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + upper + upper.mT
        values, ritz = torch.linalg.eigh(tridiagonal)
        weights = ritz[:, -1 if which == "largest" else 0]
        radius = float(values.abs().max())
        rounding = 10 * torch.finfo(image.dtype).eps * radius
        found = abs(length * float(weights[-1])) <= tolerance * radius or length <= rounding
        if found or step + 1 == limit:
            break
        beside.append(length)
        basis[step + 1] = image / length
    vector = basis[: len(weights)].mT @ weights.to(operator.like)
    vector = vector / vector.norm()
    image = operator.product(vector)
    value = float(vector @ image)
    return Eigenpair(value, vector, float((image - value * vector).norm()), len(diagonal) + 1)


def trace(operator: Operator, generator: torch.Generator, probes: int = 100) -> TraceEstimate:
    """Estimate the trace by random signs z: the mean of zᵀHz.

    probes: Hessian-vector products; ValueError below 2; the signs are drawn on the CPU
    Source: Hutchinson (1990).
    """
    if probes < 2:
        raise ValueError(f"a trace with a standard error needs at least 2 probes, got {probes}")
    estimates = []
    for _ in range(probes):
        signs = 2 * torch.randint(2, (len(operator.like),), generator=generator) - 1
        probe = signs.to(operator.like)
        estimates.append(float(probe @ operator.product(probe)))
    samples = torch.tensor(estimates, dtype=torch.float64)
    return TraceEstimate(float(samples.mean()), float(samples.std()) / math.sqrt(probes))


def curvature(
    operator: Operator,
    generator: torch.Generator,
    *,
    probes: int = 100,
    tolerance: float = 1e-6,
    products: int = 100,
) -> Curvature:
    """Return the largest eigenvalue and the trace of a Hessian; arguments as for both."""
    largest = extreme_eigenvalue(operator, generator, tolerance=tolerance, products=products)
    return Curvature(largest, trace(operator, generator, probes))


class Curvatures(NamedTuple):
    """The curvature in W of three objectives at one network.

    joint:   f(·, θ_k), the head as it is
    frozen:  f(·, θ*(W_k)), the head answering the present body only
    reduced: Φ, the head answering every body
    """

    joint: Curvature
    frozen: Curvature
    reduced: Curvature


def curvatures(
    problem: StackelbergProblem,
    parameters: Parameters,
    generator: torch.Generator,
    *,
    probes: int,
    products: int,
    tolerance: float = 1e-3,
) -> Curvatures:
    """Return the curvature in W of f with both heads and of Φ, in float64.

    parameters: body and θ_k, the head as it is
    probes, products, tolerance: as in `curvature`; the data of the problem must be float64 too
    All three use the same random numbers. Raises ValueError where f is not strongly convex in θ.
    Source: Figure 2 of arXiv 2605.15530.
    """
    body, head, _ = tree_map(lambda leaf: leaf.double(), parameters)
    best = problem.best_response(body).detach()
    state = generator.get_state()

    def measured(operator: Operator) -> Curvature:
        generator.set_state(state)
        return curvature(operator, generator, probes=probes, tolerance=tolerance, products=products)

    return Curvatures(
        measured(hessian_operator(lambda moved: problem.objective(moved, head), body)),
        measured(hessian_operator(lambda moved: problem.objective(moved, best), body)),
        measured(reduced_hessian_operator(problem, body, best)),
    )
