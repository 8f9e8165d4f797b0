"""What `experiments.convergence` says of the instances themselves, before any descent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.convergence import relu_kink
from experiments.convergence.instances import chain_problem, small_chain, small_observation
from experiments.convergence.scalar_instance import ScalarInstance
from experiments.convergence.stochastic_approximation import Instance
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.newton import hessian
from neural_tdc.stackelberg.problems import reduced_objective

RIDGE = 0.1


def joint_curvature(instance: Instance, body: Tensor, head: Tensor) -> float:
    """Return the smallest eigenvalue of the Hessian of f in (W, θ) together."""
    size = body.numel()

    def joint(flat: Tensor) -> Tensor:
        return instance.problem.objective(
            flat[:size].reshape(body.shape), flat[size:].reshape(head.shape)
        )

    point = torch.cat([body.reshape(-1), head.reshape(-1)])
    return float(torch.linalg.eigvalsh(hessian(joint)(point))[0])


def reduced_curvature(instance: Instance, body: Tensor) -> float:
    """Return the smallest eigenvalue of the Hessian of Φ."""
    return float(torch.linalg.eigvalsh(hessian(instance.reduced)(body.reshape(-1)))[0])


def least_curvatures(instance: Instance) -> dict[str, float]:
    """Return the smallest eigenvalues of ∇²f and ∇²Φ at the start and at W*.

    `joint_at_zero` is that of ∇²f where both are 0, the paper's point of Lemma 4.1.
    """
    start, head, _ = instance.start
    best = instance.problem.best_response(instance.minimiser)
    return {
        "joint_at_zero": joint_curvature(instance, torch.zeros_like(start), torch.zeros_like(head)),
        "joint_at_start": joint_curvature(instance, start, head),
        "joint_at_minimum": joint_curvature(instance, instance.minimiser, best),
        "reduced_at_start": reduced_curvature(instance, start),
        "reduced_at_minimum": reduced_curvature(instance, instance.minimiser),
    }


class ScalarCurves(NamedTuple):
    """Lemma 4.1's curvatures over its constraint set, [point] each.

    body:     W
    reduced:  Φ''(W)
    at_zero:  smallest eigenvalue of ∇²f at (W, 0)
    answered: smallest eigenvalue of ∇²f at (W, θ*(W))
    """

    body: Tensor
    reduced: Tensor
    at_zero: Tensor
    answered: Tensor


def scalar_curves(points: int = 301) -> ScalarCurves:
    """Return the curvatures of Lemma 4.1's instance on a grid of its constraint set."""
    instance = ScalarInstance()
    body = torch.linspace(*instance.interval(), points, dtype=torch.float64)

    def least(head: Tensor) -> Tensor:
        cross = 2 * body * head - 1
        rows = [head.square() + instance.decay, cross, cross, body.square() + instance.ridge]
        return torch.linalg.eigvalsh(torch.stack(rows, -1).reshape(-1, 2, 2))[:, 0]

    return ScalarCurves(
        body,
        instance.reduced_curvature(body),
        least(torch.zeros_like(body)),
        least(instance.best_response(body)),
    )


def reduced_values(
    bodies: Float[Tensor, "body input feature"], ridge: float
) -> Float[Tensor, " body"]:
    """Return min_θ ½J + λ/2 ‖θ‖² of the small chain for each body, without ε and without decay."""
    problem = chain_problem(small_chain(), small_observation(), ridge, epsilon=0.0)
    return torch.stack([reduced_objective(problem, body) for body in bodies])


def without_ridge(bodies: int = 200) -> dict[str, dict[str, float]]:
    """Return the range of Φ of the chain over random bodies, with and without a ridge."""
    drawn = torch.randn(bodies, 3, 2, generator=generator(0, "bodies"), dtype=torch.float64)
    found = {}
    for ridge in (0.0, RIDGE):
        values = reduced_values(drawn, ridge)
        found[f"ridge {ridge:g}"] = {"least": float(values.min()), "largest": float(values.max())}
    return found


def kink(ridge: float = RIDGE) -> dict[str, Any]:
    """Return one-sided slopes at the ReLU's kink and second differences there, of tanh beside."""
    zero = torch.zeros((), dtype=torch.float64)
    step = 1e-7

    def slope(side: float) -> float:
        moved = relu_kink.kinked_objective(zero + side * step, ridge)
        return float(moved - relu_kink.kinked_objective(zero, ridge)) / (side * step)

    def differences(activation: Callable[[Tensor], Tensor]) -> dict[str, float]:
        def function(weight: Tensor) -> Tensor:
            return relu_kink.kinked_objective(weight, ridge, activation)

        widths = (1e-1, 1e-2, 1e-3, 1e-4)
        return {f"{width:g}": relu_kink.second_difference(function, width) for width in widths}

    return {
        "left_slope": slope(-1.0) or 0.0,  # and not −0
        "right_slope": slope(1.0),
        "right_slope_in_closed_form": relu_kink.right_slope(ridge),
        "second_differences": {
            "relu": differences(torch.relu),
            "tanh": differences(torch.tanh),
        },
    }
