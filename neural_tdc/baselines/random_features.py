"""Frozen random features of observations: tanh of random projections, and random Fourier features.

They are blocks of `feature_blocks` whose parameters are drawn once and never learned. Observations
are expected with components of deviation 1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.networks.mlp_population import Layer


def random_tanh(
    inputs: int,
    features: int,
    scale: float,
    source: torch.Generator,
    device: torch.device | str = "cpu",
) -> Block:
    """Draw tanh(observation·W + c): columns of W of length about `scale`, c uniform in ±2·scale."""
    weight, phase = _projection(inputs, features, scale, source)
    return Block("tanh", (Layer(weight.to(device), ((4 * phase - 2) * scale).to(device)),))


def random_fourier(
    inputs: int,
    features: int,
    scale: float,
    source: torch.Generator,
    device: torch.device | str = "cpu",
) -> Block:
    """Draw cos(observation·W + c), the features of a Gaussian kernel (Rahimi & Recht 2007).

    The kernel's length is √inputs / scale, in deviations of the observation's components.
    """
    weight, phase = _projection(inputs, features, scale, source)
    return Block("cosine", (Layer(weight.to(device), (2 * math.pi * phase).to(device)),))


def _projection(
    inputs: int, features: int, scale: float, source: torch.Generator
) -> tuple[Float[Tensor, "input feature"], Float[Tensor, " feature"]]:
    """Draw normal weights and phases in [0, 1), on the CPU so that every device has the same."""
    weight = torch.randn(inputs, features, generator=source, dtype=torch.float64)
    phase = torch.rand(features, generator=source, dtype=torch.float64)
    return weight * scale / math.sqrt(inputs), phase


RANDOM_FEATURES = {"random": random_tanh, "fourier": random_fourier}
