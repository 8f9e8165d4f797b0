"""The value functions that baselines learn: θᵀx(s) with features made of blocks."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import Block, block_features


class LinearValue(NamedTuple):
    """A value function θᵀx(s).

    blocks: of the features x of raw observations
    head:   θ; the constant's entry is the last
    """

    blocks: list[Block]
    head: Float[Tensor, " feature"]

    def __call__(self, observation: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Return V of raw observations, in float64."""
        return block_features(self.blocks, observation.double().flatten(1)) @ self.head
