"""Distributions of continuous actions: drawn from uniform numbers, and their densities."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

# Nearest to 0 and 1 that a uniform number in double precision comes without being one of them.
_MARGIN = 2.0**-54


def inverse(
    distribution: Distribution, level: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, "n ..."] | None:
    """Draw from a distribution by its inverse at uniform numbers, one for each component.

    None where torch knows no inverse, as of mixtures, gamma and beta distributions.
    """
    try:
        drawn = _inverse(distribution, torch.from_numpy(level).clamp(_MARGIN, 1 - _MARGIN))
    except NotImplementedError:
        return None
    return drawn.detach().cpu().double().numpy() if drawn.shape == level.shape else None


def _inverse(distribution: Distribution, level: Tensor) -> Tensor:
    if isinstance(distribution, Independent):
        return _inverse(distribution.base_dist, level)
    if isinstance(distribution, TransformedDistribution):
        # As the transforms of torch do, not all of which are monotone: to draw, that is enough.
        value = _inverse(distribution.base_dist, level)
        for transform in distribution.transforms:
            value = transform(value)
        return value
    if isinstance(distribution, MultivariateNormal):
        normal = math.sqrt(2) * torch.erfinv(2 * level - 1).to(distribution.loc)
        return distribution.loc + (distribution.scale_tril @ normal[..., None])[..., 0]
    if isinstance(distribution, Normal):
        return distribution.loc + distribution.scale * math.sqrt(2) * torch.erfinv(2 * level - 1)
    return distribution.icdf(level)


def log_density(distribution: Distribution, action: Tensor) -> Float[Tensor, " n"]:
    """Return the logarithms of the densities of actions [n, …], −∞ outside the support."""
    _unchecked(distribution)
    given = distribution.log_prob(action)
    return given.reshape(len(action), -1).sum(1).detach().cpu()


def _unchecked(distribution: Distribution) -> None:
    """Let a distribution take actions outside its support: their density is 0, and no error."""
    distribution._validate_args = False
    base = getattr(distribution, "base_dist", None)
    if isinstance(base, Distribution):
        _unchecked(base)
