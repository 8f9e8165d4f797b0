"""Weighted means of candidates that are near to what held-out data say: stacking.

Wolpert 1992, "Stacked generalization"; Breiman 1996, "Stacked regressions". Off-policy no return of
the evaluated policy is seen, so the returns are bootstrapped from a reference value. The reference
starts at candidates with settings that are usually good, and leaves them only as far as the data
show a gain clearly above its chance.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.baselines.lambda_returns import lambda_errors, td_errors
from neural_tdc.metrics.paired_errors import mean_with_error
from neural_tdc.types import Transition

# How often the reference moves, and the steps of each fit of its weights.
_ROUNDS, _STEPS = 3, 300
# A gain below so many standard errors moves nothing: the weights were fitted to the same data.
_CLEAR = 2.0


def stacked_weights(
    value: Float[Tensor, "time candidate"],
    next_value: Float[Tensor, "time candidate"],
    transitions: Transition,
    start: Float[Tensor, " candidate"],
    episode: Int[Tensor, " time"],
) -> tuple[Float[Tensor, " candidate"], Float[Tensor, " time"]]:
    """Return weights near a start that off-policy data support, and the returns around their mean.

    value, next_value: held-out values of all candidates at s and s', finite
    start:   weights of the first reference, not negative, with the sum 1
    episode: independent draws, for the standard error of a gain

    In each round G are returns with control variates (λ = 1, ratios carried on up to 1) around the
    present reference, and the fit is the mean of candidates that is nearest to G, with weights that
    are not negative and sum to 1. The reference moves by the share max(0, 1 − (2·s/g)²) towards the
    fit, with g the gain in mean (G − V)² and s its standard error.
    """
    gram, weights = value.T @ value / len(value), start
    for _ in range(_ROUNDS):
        reference = value @ weights
        target = _returns_around(reference, next_value @ weights, transitions)
        fit = simplex_least_squares(gram, value.T @ target / len(value), weights, _STEPS)
        gain = (target - reference).square() - (target - value @ fit).square()
        share = _clear_share(*map(float, mean_with_error(gain, episode)))
        if share == 0:
            break
        weights = weights + share * (fit - weights)
    return weights, _returns_around(value @ weights, next_value @ weights, transitions)


def _clear_share(gain: float, error: float) -> float:
    """Return max(0, 1 − (2·error/gain)²), 0 without a gain."""
    return max(0.0, 1 - (_CLEAR * error / gain) ** 2) if gain > 0 else 0.0


def _returns_around(
    reference: Float[Tensor, " time"],
    next_reference: Float[Tensor, " time"],
    transitions: Transition,
) -> Float[Tensor, " time"]:
    """Return the returns with control variates around a reference value."""
    td_error = td_errors(reference, next_reference, transitions)
    return reference + lambda_errors(td_error, transitions, 1.0, trace_limit=1.0)


def simplex_least_squares(
    gram: Float[Tensor, "item item"],
    product: Float[Tensor, " item"],
    start: Float[Tensor, " item"],
    steps: int,
) -> Float[Tensor, " item"]:
    """Minimise ½wᵀGw − wᵀp over weights that are not negative and sum to 1, from such a start.

    Each step moves weight from one item to another as far as it helps, the pairwise Frank-Wolfe
    method (Lacoste-Julien & Jaggi 2015).
    """
    weights = start.clone()
    for _ in range(steps):
        slope = gram @ weights - product
        better = int(slope.argmin())
        worse = int(torch.where(weights > 0, slope, -torch.inf).argmax())
        gain = float(slope[worse] - slope[better])
        curvature = float(gram[better, better] - 2 * gram[better, worse] + gram[worse, worse])
        if not gain > 0:
            break
        whole = float(weights[worse])
        step = whole if gain >= whole * curvature else gain / curvature
        weights[better] += step
        weights[worse] = whole - step
    return weights
