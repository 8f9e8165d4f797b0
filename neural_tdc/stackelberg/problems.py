"""The Stackelberg view: min_W Φ(W) with Φ(W) = min_θ f(W, θ), the head answering the body.

A `Problem` holds a loss f(W, θ) and its best response θ*(W); makers for the paper's regression
and classification losses on any body, and their closed-form gradients for a two-layer network,
stand below. The body W is any tensor or pytree of tensors.
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
    ridge_response,
    softmax_response,
)

Features = Callable[[Any, Tensor], Tensor]
Activation = Callable[[Tensor], Tensor]


class Problem(NamedTuple):
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


def regression(features: Features, observation: Tensor, target: Tensor, ridge: float) -> Problem:
    """Make the regression problem (8) for `features(body, observation) -> [sample, feature]`."""
    check_ridge(ridge)
    return Problem(
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
) -> Problem:
    """Make the classification problem (11) for `features(body, observation) -> [sample, feature]`.

    Without `classes` the labels are 0. and 1. and the head a vector; with it they are the integers
    0 … classes − 1 and the head is [feature, class]. tolerance, strict: as in `logistic_response`.
    """
    check_ridge(ridge)
    if classes is None:
        return Problem(
            lambda body, head: logistic_loss(features(body, observation), label, head, ridge),
            lambda body: (
                logistic_response(
                    features(body, observation), label, ridge, tolerance=tolerance, strict=strict
                ).head
            ),
        )
    return Problem(
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


def policy_evaluation(moments: Callable[[Any], Moments], ridge: float) -> Problem:
    """Make the problem ½J(W, θ) + λ/2 ‖θ‖² on a chain: half the MSPBE with a ridge on the head.

    moments: W → A, b₀ and C of the body's features, e.g. `lambda body: chain.moments(phi(body))`;
             C must be positive definite (add εI where it is not)
    With λ = 0 the best response is LSTD, and the reduced objective is 0 wherever A is nonsingular.
    """
    check_ridge(ridge)

    def objective(body: Any, head: Tensor) -> Tensor:
        of_body = moments(body)
        residual = of_body.b0 - of_body.A @ head
        projected = torch.linalg.solve(of_body.C, residual)
        return (residual @ projected + ridge * head.square().sum()) / 2

    def best_response(body: Any) -> Tensor:
        of_body = moments(body)
        return mspbe_response(of_body.A, of_body.C, of_body.b0, ridge)

    return Problem(objective, best_response)


def reduced_objective(problem: Problem, body: Any) -> Float[Tensor, ""]:
    """Return Φ(W) = f(W, θ*(W)).

    Autograd through it gives ∇Φ; its second derivatives are those of Φ only where the best response
    is differentiable, as the ridge's is: see `curvature.reduced_hessian_operator` for all others.
    """
    return problem.objective(body, problem.best_response(body))


def reduced_gradient(problem: Problem, body: Any) -> tuple[Any, Float[Tensor, ""]]:
    """Return ∇Φ(W) = ∇_W f(W, θ) at θ = θ*(W), like W, and Φ(W).

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
    minimum is 0 whatever the features: raises ValueError where λ is not above 0.
    """
    check_ridge(ridge)
    if ridge == 0:
        raise ValueError("without a ridge the reduced MSPBE is 0 for every body: add one above 0")
    return reward @ torch.linalg.solve(moment + system @ system.mT / ridge, reward) / 2


class Gradients(NamedTuple):
    """The two gradients of a loss: by the body's weight [input, feature] and by the head."""

    body: Tensor
    head: Tensor


def _two_layer_gradients(
    inputs: Tensor,
    weight: Tensor,
    head: Tensor,
    ridge: float,
    activation: Activation,
    error: Callable[[Tensor], Tensor],
) -> Gradients:
    samples = len(inputs)
    before = inputs @ weight
    features, pullback = torch.func.vjp(activation, before)[:2]
    (slope,) = pullback(torch.ones_like(before))
    # [sample, output], whether the head is a vector or a matrix
    deviation = error(features @ head).reshape(samples, -1)
    columns = head.reshape(len(head), -1)
    body = inputs.mT @ ((deviation @ columns.mT) * slope) / samples
    return Gradients(body, (features.mT @ deviation / samples).reshape(head.shape) + ridge * head)


def regression_gradients(
    inputs: Float[Tensor, "sample input"],
    target: Float[Tensor, "sample *output"],
    weight: Float[Tensor, "input feature"],
    head: Float[Tensor, "feature *output"],
    ridge: float,
    activation: Activation,
) -> Gradients:
    """Return the gradients of (8) for Z = σ(XW), e = Zθ − y.

    ∇_W = Xᵀ[(eθᵀ)∘σ'(XW)]/n and ∇_θ = Zᵀe/n + λθ. At a kink σ' is torch's choice, a Clarke
    subgradient: 0 for ReLU. Source: section 5.1 of arXiv 2605.15530.
    """
    return _two_layer_gradients(
        inputs, weight, head, ridge, activation, lambda prediction: prediction - target
    )


def classification_gradients(
    inputs: Float[Tensor, "sample input"],
    label: Float[Tensor, " sample"],
    weight: Float[Tensor, "input feature"],
    head: Float[Tensor, " feature"],
    ridge: float,
    activation: Activation,
) -> Gradients:
    """Return the gradients of (11) for Z = σ(XW), p = sigmoid(Zθ).

    ∇_W = Xᵀ[((p−y)θᵀ)∘σ'(XW)]/n and ∇_θ = Zᵀ(p−y)/n + λθ. Source: section 5.2 of arXiv 2605.15530.
    """
    return _two_layer_gradients(
        inputs, weight, head, ridge, activation, lambda logit: torch.sigmoid(logit) - label
    )


def softmax_gradients(
    inputs: Float[Tensor, "sample input"],
    label: Int[Tensor, " sample"],
    weight: Float[Tensor, "input feature"],
    head: Float[Tensor, "feature class"],
    ridge: float,
    activation: Activation,
) -> Gradients:
    """Return the gradients of (11) for many classes: p − y becomes P − Y, Y the one-hot labels."""
    truth = torch.nn.functional.one_hot(label.long(), head.shape[1]).to(head.dtype)
    return _two_layer_gradients(
        inputs, weight, head, ridge, activation, lambda logit: torch.softmax(logit, -1) - truth
    )
