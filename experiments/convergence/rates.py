"""Rates of convergence: steps that decay by powers, and the power by which an error decays."""

from jaxtyping import Float, Int
from torch import Tensor


def power_steps(
    first: float,
    exponents: Float[Tensor, " schedule"],
    offset: float,
    updates: Int[Tensor, " update"],
) -> Float[Tensor, "update schedule"]:
    """Return the steps first·((h + k)/h)^(−a) of the updates k = 0, 1, …, one column an exponent a.

    first:  the step of update 0, whatever the exponent
    offset: h > 0, the number of updates over which the steps hardly decay
    """
    passed = (updates.to(exponents.dtype) + offset) / offset
    return first * passed[:, None] ** -exponents


def log_log_slope(
    steps: Float[Tensor, " time"], errors: Float[Tensor, "time *column"]
) -> Float[Tensor, "*column"]:
    """Return the power p of error ~ step^p: the slope of log error over log step, least squares.

    Raises ValueError for fewer than two steps and for steps that are not above 0.
    """
    if len(steps) < 2 or not bool((steps > 0).all()):
        raise ValueError("a slope needs at least two steps, all of them above 0")
    centred = steps.log() - steps.log().mean()
    logarithms = errors.log().reshape(len(steps), -1)
    return (centred @ logarithms / centred.square().sum()).reshape(errors.shape[1:])
