"""A small network in two groups, with the loss of numbered batches."""

import torch
from torch import Tensor

from neural_tdc.randomness import generator

LOW, HIGH = 1e-4, 10.0


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)
