"""Weighted means of candidates that are near to what held-out data say: stacking.

Wolpert 1992, "Stacked generalization"; Breiman 1996, "Stacked regressions". Off-policy no return of
the evaluated policy is seen, so the returns are bootstrapped from a reference value, which is
replaced in rounds by the weighted mean of candidates that is nearest to them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.lambda_returns import lambda_errors, td_errors
from neural_tdc.metrics.stream_values import StreamValues
from neural_tdc.types import Transition

# How often the reference is replaced, and the steps of each fit of its weights.
_ROUNDS, _STEPS = 6, 300


def stacked_weights(
    values: StreamValues, transitions: Transition, start: Float[Tensor, " candidate"]
) -> tuple[Float[Tensor, " candidate"], Float[Tensor, " time"]]:
    """Return the weights of the last reference and the returns around it.

    values: held out, of all candidates, finite
    start:  weights of the first reference, not negative, with the sum 1; so are those returned

    The returns have control variates (λ = 1, ratios carried on up to 1).
    """
    gram, weights = values.gram(), start
    target = _returns_around(*values.weighted(weights), transitions)
    for _ in range(_ROUNDS):
        weights = simplex_least_squares(gram, values.products(target), weights, _STEPS)
        target = _returns_around(*values.weighted(weights), transitions)
    return weights, target


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
