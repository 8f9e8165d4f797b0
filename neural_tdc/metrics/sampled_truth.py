"""Errors against a truth whose states are a sample, and whose values are estimates."""

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.metrics.value_errors import CUT, solve_symmetric, spectrum


def best_linear_squares(
    features: Float[Tensor, "state d"],
    weighting: Float[Tensor, " state"],
    value: Float[Tensor, " state"],
) -> Float[Tensor, " state"]:
    """Return r²/(1 − h) of each state for the head fitted to them: r its residual, h its leverage.

    The head is fitted to the noise of the values and to the states drawn, so that the mean of r² is
    too small by a factor of about 1 − d/state. A residual of variance τ² has E r² = (1 − h)τ², so
    the mean of r²/(1 − h) is right, and so is it after the *whole* variance of the values is
    subtracted (MacKinnon & White 1985, HC2). 0 where h = 1: with as many features as states nothing
    is known of the error.
    """
    weighted = features * weighting[:, None]
    of = spectrum(weighted.mT @ features)
    residual = value - features @ solve_symmetric(of, weighted.mT @ value)
    free = 1 - (weighted * torch.vmap(lambda row: solve_symmetric(of, row))(features)).sum(1)
    some = free > 1e3 * CUT
    return torch.where(some, residual.square() / torch.where(some, free, 1.0), 0.0)


def states_error(
    squares: Float[Tensor, " state"],
    weighting: Float[Tensor, " state"],
    squared_error_of_truth: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, ""]:
    """Return how much an RMSVE √q varies with the states drawn: √(q + s) − √q.

    squares: [state] (V − v)²
    s is the standard error of q = Σd(V − v)² − σ² over draws of as many states, independent of each
    other. It is about s/(2√q), the delta method's, and finite at 0.
    """
    mean = (weighting * squares).sum()
    count = len(weighting)
    variance = (weighting * (squares - mean)).square().sum() * count / max(count - 1, 1)
    least = (mean - squared_error_of_truth).clamp(min=0)
    return (least + variance.sqrt()).sqrt() - least.sqrt()
