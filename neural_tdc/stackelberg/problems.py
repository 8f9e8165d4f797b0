"""The Stackelberg view: min_W Φ(W) with Φ(W) = min_θ f(W, θ), the head answering the body.

A `StackelbergProblem` holds a loss f(W, θ) and its best response θ*(W); there are makers for the
paper's regression and classification losses on any body. The body W is any tensor or pytree of
tensors. Gradients in closed form are those of `neural_tdc.networks.mlp_population`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.metrics.value_errors import Moments
from neural_tdc.stackelberg.best_responses import (
    check_ridge,
    logistic_response,
    mspbe_response,
    positive_solution,
    ridge_response,
    softmax_response,
)

Features = Callable[[Any, Tensor], Tensor]


class StackelbergProblem(NamedTuple):
    """A loss of body and head, and the head that is best for a body.

    objective:     f(W, θ) → scalar
    best_response: W → θ*(W) = argmin_θ f(W, θ)
    """

    objective: Callable[[Any, Tensor], Tensor]
    best_response: Callable[[Any], Tensor]


def squared_loss(
    features: Float[Tensor, "sample feature"],
    target: Float[Tensor, "sample *output"],
    head: Float[Tensor, "feature *output"],
    ridge: float,
) -> Float[Tensor, ""]:
    """Return ‖Zθ − y‖²/(2n) + λ/2 ‖θ‖², (8) of arXiv 2605.15530."""
    error = features @ head - target
    return error.square().sum() / (2 * len(target)) + ridge / 2 * head.square().sum()


def logistic_loss(
    features: Float[Tensor, "sample feature"],
    label: Float[Tensor, " sample"],
    head: Float[Tensor, " feature"],
    ridge: float,
) -> Float[Tensor, ""]:
    """Return −mean[y log p + (1−y) log(1−p)] + λ/2 ‖θ‖², (11) of arXiv 2605.15530."""
    logit = features @ head
    fit = torch.nn.functional.softplus(logit) - label * logit
    return fit.mean() + ridge / 2 * head.square().sum()


def softmax_loss(
    features: Float[Tensor, "sample feature"],
    label: Int[Tensor, " sample"],
    head: Float[Tensor, "feature class"],
    ridge: float,
) -> Float[Tensor, ""]:
    """Return the mean cross entropy of softmax(ZΘ) + λ/2 ‖Θ‖²: (11) for many classes."""
    fit = torch.nn.functional.cross_entropy(features @ head, label.long())
    return fit + ridge / 2 * head.square().sum()


def regression(
    features: Features, observation: Tensor, target: Tensor, ridge: float
) -> StackelbergProblem:
    """Make the regression problem (8) for `features(body, observation) -> [sample, feature]`.

    observation: [sample, …]; target: [sample]; ridge: λ. Source: equation (8) of arXiv 2605.15530.
    """
    check_ridge(ridge)
    return StackelbergProblem(
        lambda body, head: squared_loss(features(body, observation), target, head, ridge),
        lambda body: ridge_response(features(body, observation), target, ridge),
    )


def classification(
    features: Features,
    observation: Tensor,
    label: Tensor,
    ridge: float,
    *,
    classes: int | None = None,
    tolerance: float | None = None,
    strict: bool = True,
) -> StackelbergProblem:
    """Make the classification problem (11) for `features(body, observation) -> [sample, feature]`.

    observation: [sample, …]; label: [sample]; ridge: λ. Source: equation (11) of arXiv 2605.15530.
    Without `classes` the labels are 0. and 1. and the head a vector; with it they are the integers
    0 … classes − 1 and the head is [feature, class]. tolerance, strict: as in `logistic_response`.
    """
    check_ridge(ridge)
    if classes is None:
        return StackelbergProblem(
            lambda body, head: logistic_loss(features(body, observation), label, head, ridge),
            lambda body: (
                logistic_response(
                    features(body, observation), label, ridge, tolerance=tolerance, strict=strict
                ).head
            ),
        )
    return StackelbergProblem(
        lambda body, head: softmax_loss(features(body, observation), label, head, ridge),
        lambda body: (
            softmax_response(
                features(body, observation),
                label,
                classes,
                ridge,
                tolerance=tolerance,
                strict=strict,
            ).head
        ),
    )


def policy_evaluation(moments: Callable[[Any], Moments], ridge: float) -> StackelbergProblem:
    """Make the problem ½J(W, θ) + λ/2 ‖θ‖² on a chain: half the MSPBE with a ridge on the head.

    moments: W → A, b₀ and C of the body's features, e.g. `lambda body: chain.moments(phi(body))`;
             C must be positive definite (add εI where it is not)
    With λ = 0 the best response is LSTD, and the reduced objective is 0 wherever A is nonsingular.
    """
    check_ridge(ridge)

    def objective(body: Any, head: Tensor) -> Tensor:
        of_body = moments(body)
        residual = of_body.b0 - of_body.A @ head
        projected = positive_solution(of_body.C, residual[:, None])[:, 0]
        return (residual @ projected + ridge * head.square().sum()) / 2

    def best_response(body: Any) -> Tensor:
        of_body = moments(body)
        return mspbe_response(of_body.A, of_body.C, of_body.b0, ridge)

    return StackelbergProblem(objective, best_response)


def reduced_objective(problem: StackelbergProblem, body: Any) -> Float[Tensor, ""]:
    """Return Φ(W) = f(W, θ*(W)); body: W, a tensor or a pytree of tensors.

    Autograd through it gives ∇Φ; its second derivatives are those of Φ only where the best response
    is differentiable, as the ridge's is: see `curvature.reduced_hessian_operator` for all others.
    """
    return problem.objective(body, problem.best_response(body))


def reduced_gradient(problem: StackelbergProblem, body: Any) -> tuple[Any, Float[Tensor, ""]]:
    """Return ∇Φ(W) = ∇_W f(W, θ) at θ = θ*(W), like W, and Φ(W).

    body: W, a tensor or a pytree of tensors
    One backward pass at the fixed best response. Source: Danskin's theorem, Lemma 3.2 of
    arXiv 2605.15530.
    """
    with torch.no_grad():
        head = problem.best_response(body)
    return torch.func.grad_and_value(lambda moved: problem.objective(moved, head))(body)


def reduced_regression(
    features: Float[Tensor, "sample feature"], target: Float[Tensor, "sample *output"], ridge: float
) -> Float[Tensor, ""]:
    """Return Φ = yᵀ(I + ZZᵀ/(nλ))⁻¹y/(2n) of the regression (8) without solving for the head.

    The system solved is the smaller of sample × sample and feature × feature.
    Raises ValueError where λ is not above 0. Source: Woodbury form (44) of arXiv 2605.15530.
    """
    check_ridge(ridge)
    if ridge == 0:
        raise ValueError("the Woodbury form divides by the ridge: it must be above 0")
    samples, dimension = features.shape
    columns = target.reshape(samples, -1)
    scaled = features / math.sqrt(samples * ridge)
    small = scaled @ scaled.mT if samples <= dimension else scaled.mT @ scaled
    identity = torch.eye(len(small), dtype=small.dtype, device=small.device)
    factor = torch.linalg.cholesky(identity + small)
    if samples <= dimension:
        whitened = torch.linalg.solve_triangular(factor, columns, upper=False)
        return whitened.square().sum() / (2 * samples)
    explained = torch.linalg.solve_triangular(factor, scaled.mT @ columns, upper=False)
    return (columns.square().sum() - explained.square().sum()) / (2 * samples)


def reduced_mspbe(
    system: Float[Tensor, "feature feature"],
    moment: Float[Tensor, "feature feature"],
    reward: Float[Tensor, " feature"],
    ridge: float,
) -> Float[Tensor, ""]:
    """Return min_θ ½(b₀ − Aθ)ᵀC⁻¹(b₀ − Aθ) + λ/2 ‖θ‖² = ½b₀ᵀ(C + AAᵀ/λ)⁻¹b₀.

    Arguments as in `best_responses.mspbe_response`. Without a ridge, and with a nonsingular A, the
    minimum is 0 for all features: raises ValueError where λ is not above 0.
    """
    check_ridge(ridge)
    if ridge == 0:
        raise ValueError("without a ridge the reduced MSPBE is 0 for every body: add one above 0")
    solved = positive_solution(moment + system @ system.mT / ridge, reward[:, None])[:, 0]
    return reward @ solved / 2
