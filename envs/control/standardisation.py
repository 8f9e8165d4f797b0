"""Means and scales of observations, by which they are standardised."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

# Rows of bytes that are turned into numbers at a time.
_BYTES_AT_ONCE = 1024


def byte_units(
    table: UInt8[Tensor, "row *shape"], number: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return mean and scale of each component as `standardisation` does, of bytes, in float32.

    number: of the rows that count

    They are taken a few rows at a time: in floating point pictures are large.
    """
    total, squares = (torch.zeros(table.shape[1:], dtype=torch.float64) for _ in range(2))
    constant = torch.ones(table.shape[1:], dtype=torch.bool)
    for some in number.split(_BYTES_AT_ONCE):
        block = table[some]
        constant &= (block == table[number[0]]).all(0)
        # Around 128 less is lost by cancellation; sums of bytes are exact.
        centred = block.double().sub_(128)
        total += centred.sum(0)
        squares += centred.square_().sum(0)
    mean = total / len(number)
    deviation = (squares / len(number) - mean.square()).clamp(min=0).sqrt()
    scale = torch.where(constant, torch.ones_like(deviation), deviation)
    return (mean + 128).float(), scale.float()


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
