"""Hessians as products with vectors: of any scalar function, and of Φ(W) = min_θ f(W, θ)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from neural_tdc.stackelberg.best_responses import default_tolerance
from neural_tdc.stackelberg.newton import conjugate_gradients
from neural_tdc.stackelberg.problems import StackelbergProblem

# Heads with more entries than this are solved for by conjugate gradients.
DENSE_HEAD = 4096


class Operator(NamedTuple):
    """A symmetric matrix, given by its product with a vector.

    product: [size] → [size]
    like:    a vector [size] of the dtype and device the product wants
    """

    product: Callable[[Tensor], Tensor]
    like: Tensor


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
