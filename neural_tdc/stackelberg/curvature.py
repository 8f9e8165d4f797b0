"""Curvature of a loss by Hessian-vector products: top eigenvalue, trace, and both for Φ.

A Hessian is a `Operator`, a product on flat vectors. `hessian_operator` makes it for any scalar
function of a pytree of tensors, `reduced_hessian_operator` for Φ(W) = min_θ f(W, θ).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from neural_tdc.stackelberg.best_responses import default_tolerance
from neural_tdc.stackelberg.newton import conjugate_gradients
from neural_tdc.stackelberg.problems import StackelbergProblem
from neural_tdc.types import Parameters

# Heads with more entries than this are solved for by conjugate gradients.
DENSE_HEAD = 4096


class Operator(NamedTuple):
    """A symmetric matrix, given by its product with a vector.

    product: [size] → [size]
    like:    a vector [size] of the dtype and device the product wants
    """

    product: Callable[[Tensor], Tensor]
    like: Tensor


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


def flatten(tree: Any) -> tuple[Float[Tensor, " size"], Callable[[Tensor], Any]]:
    """Return a pytree of tensors as one vector, and the function that maps vectors back."""
    leaves, structure = tree_flatten(tree)
    sizes = [leaf.numel() for leaf in leaves]

    def restore(vector: Tensor) -> Any:
        parts = [part.reshape(leaf.shape) for part, leaf in zip(vector.split(sizes), leaves)]
        return tree_unflatten(parts, structure)

    return torch.cat([leaf.reshape(-1) for leaf in leaves]), restore


def hessian_operator(function: Callable[[Any], Tensor], parameters: Any) -> Operator:
    """Return the Hessian of a scalar function of a pytree of tensors, as a product.

    function: parameters → a tensor without axes; parameters: the pytree at which it is taken
    The gradient is taken once and its graph kept; each product is one backward pass through it.
    """
    vector, restore = flatten(parameters)
    point = vector.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(function(restore(point)), point, create_graph=True)

    def product(direction: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a linear function
            return torch.zeros_like(direction)
        (image,) = torch.autograd.grad(
            gradient, point, direction, retain_graph=True, materialize_grads=True
        )
        return image

    return Operator(product, vector.detach())


def dense(operator: Operator) -> Float[Tensor, "size size"]:
    """Return a small operator as a matrix."""
    identity = torch.eye(len(operator.like), dtype=operator.like.dtype, device=operator.like.device)
    return torch.stack([operator.product(row) for row in identity])


def reduced_hessian_operator(
    problem: StackelbergProblem,
    body: Any,
    head: Tensor | None = None,
    *,
    tolerance: float | None = None,
) -> Operator:
    """Return ∇²Φ(W) = f_WW − f_Wθ f_θθ⁻¹ f_θW at θ = θ*(W), as a product.

    body:      W, a tensor or a pytree of tensors
    head:      the best response, where it is known already
    tolerance: relative, of the solves with f_θθ where the head has more than 4,096 entries (1e-10
               in float64, 1e-5 in float32); up to there f_θθ is formed and factorised once

    The implicit function theorem; it needs no derivative of the best response, which therefore may
    come from an iteration. f_θθ must be positive definite: raises ValueError where it is not.
    """
    solved = problem.best_response(body).detach() if head is None else head.detach()
    vector, restore = flatten(body)
    point = vector.detach().requires_grad_()
    at = solved.clone().requires_grad_()
    with torch.enable_grad():
        loss = problem.objective(restore(point), at)
        by_body, by_head = torch.autograd.grad(loss, (point, at), create_graph=True)

    def backward(output: Tensor, wanted: Tensor, direction: Tensor) -> Tensor:
        (image,) = torch.autograd.grad(
            output, wanted, direction, retain_graph=True, materialize_grads=True
        )
        return image

    if at.numel() <= DENSE_HEAD:
        identity = torch.eye(at.numel(), dtype=at.dtype, device=at.device)
        rows = [backward(by_head, at, row.reshape(at.shape)).reshape(-1) for row in identity]
        factor, failure = torch.linalg.cholesky_ex(torch.stack(rows))
        if int(failure) != 0:
            raise ValueError(
                "the loss is not strongly convex in the head here: add a ridge above 0"
            )

        def solve(right: Tensor) -> Tensor:
            return torch.cholesky_solve(right.reshape(-1, 1), factor).reshape(at.shape)

    else:
        relative = default_tolerance(at.dtype) if tolerance is None else tolerance

        def solve(right: Tensor) -> Tensor:
            goal = relative * float(right.norm())
            return conjugate_gradients(
                lambda move: backward(by_head, at, move), right, goal, 10 * at.numel()
            )

    def product(direction: Tensor) -> Tensor:
        # f_θW v is the derivative by θ of ⟨f_W, v⟩, and f_Wθ u that by W of ⟨f_θ, u⟩
        answer = solve(backward(by_body, at, direction))
        return backward(by_body, point, direction) - backward(by_head, point, answer)

    return Operator(product, vector.detach())


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
