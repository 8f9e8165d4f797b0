"""Means and scales of observations, by which they are standardised."""

import torch
from jaxtyping import Float
from torch import Tensor


def standardisation(
    observation: Float[Tensor, "batch *shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return mean and scale of each component: (observation − mean) / scale has mean 0, variance 1.

    The scale is 1 where a component is constant. Computed in float64, returned in the dtype of
    `observation`.
    """
    exact = observation.double()
    mean, deviation = exact.mean(0), exact.std(0, unbiased=False)
    constant = (observation == observation[:1]).all(0)
    scale = torch.where(constant, torch.ones_like(deviation), deviation)
    return mean.to(observation.dtype), scale.to(observation.dtype)
