"""What is measured of one network: losses, accuracy, the head's tracking error, and curvature."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.networks.mlp_population import CROSS_ENTROPY, NetworkObjective, features
from neural_tdc.stackelberg.best_responses import BestResponse
from neural_tdc.stackelberg.problems import StackelbergProblem, classification, regression
from neural_tdc.types import Parameters

# Predictions of so many samples are made at once.
CHUNK = 2_000


def losses(
    objective: NetworkObjective, parameters: Parameters, inputs: Tensor, target: Tensor
) -> dict[str, float]:
    """Return the mean loss without the ridge, and for labels the fraction classified correctly.

    inputs: [sample, input]; target: [sample]
    """
    with torch.no_grad():
        prediction = torch.cat(
            [
                features(parameters.body, part, objective.activation) @ parameters.head
                for part in inputs.split(CHUNK)
            ]
        )
        found = {"loss": float(objective.loss.value(prediction.double(), target))}
        if objective.loss is CROSS_ENTROPY:
            found["accuracy"] = float((prediction.argmax(-1) == target).double().mean())
    return found


def head_tracking_error(
    objective: NetworkObjective,
    parameters: Parameters,
    inputs: Float[Tensor, "sample input"],
    response: BestResponse,
) -> float:
    """Return the root mean square over samples of Z(θ − θ*), in units of the prediction.

    Of class scores their mean over classes is taken away: it changes no probability.
    """
    with torch.no_grad():
        learned = features(parameters.body, inputs, objective.activation).double()
        difference = learned @ (parameters.head - response.head)
        if objective.loss is CROSS_ENTROPY:
            difference = difference - difference.mean(-1, keepdim=True)
        return float(difference.square().sum(-1).mean().sqrt())


def stackelberg_problem(
    objective: NetworkObjective,
    inputs: Float[Tensor, "sample input"],
    target: Tensor,
    classes: int | None,
    tolerance: float | None = None,
) -> StackelbergProblem:
    """Return f(W, θ) and θ*(W) on some samples, for `curvature` and `landscape`.

    target: [sample]; classes: their number, None for regression
    """
    body_features: Callable[..., Tensor] = partial(features, activation=objective.activation)
    if classes is None:
        return regression(body_features, inputs, target, objective.ridge)
    return classification(
        body_features,
        inputs,
        target,
        objective.ridge,
        classes=classes,
        tolerance=tolerance,
        strict=False,
    )
