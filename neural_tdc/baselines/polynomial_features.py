"""Polynomials of observations as features: what a linear system with a quadratic cost needs.

They are blocks of `feature_blocks`. A product of two components is a difference of squares, so that
squares of single components and of sums span all polynomials of degree 2.
"""

import torch

from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.networks.mlp_population import Layer

# More features than this are too many next to the others.
_MOST = 256


def polynomial_blocks(inputs: int, device: torch.device | str = "cpu") -> list[Block]:
    """Return blocks that span the polynomials without a constant, of the degree that is affordable.

    It is degree 2 up to 21 inputs, degree 1 up to 256, and no block for more.
    """
    if inputs > _MOST:
        return []
    single = torch.eye(inputs, dtype=torch.float64, device=device)
    blocks = [_block("linear", single)]
    if inputs + inputs * (inputs + 1) // 2 <= _MOST:
        i, j = torch.triu_indices(inputs, inputs, 1, device=device)
        sums = (single[i] + single[j]).T / 2**0.5
        blocks.append(_block("square", torch.cat([single, sums], 1)))
    return blocks


def _block(activation: str, weight: torch.Tensor) -> Block:
    return Block(activation, (Layer(weight, weight.new_zeros(weight.shape[1])),))
