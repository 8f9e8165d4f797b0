"""The value functions that methods learn: θᵀx(s) with features made of blocks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import (
    Block,
    block_features,
    feature_blocks,
    module_parameters,
    on_raw_inputs,
)
from neural_tdc.baselines.log_preparation import ValueUnits
from neural_tdc.baselines.value_range import UNLIMITED, ValueRange
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.networks.mlp_population import Layer
from neural_tdc.types import FeatureMap, Parameters

FEATURE_BLOCKS = "neural_tdc.baselines.feature_blocks:feature_blocks"


class LinearValue(NamedTuple):
    """A value function θᵀx(s) within limits.

    blocks: of the features x of observations
    head:   θ; the constant's entry is the last
    limits: of the values; a value outside is replaced by the nearest bound
    """

    blocks: list[Block]
    head: Float[Tensor, " feature"]
    limits: ValueRange = UNLIMITED

    def __call__(self, observation: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Return V of observations, in float64."""
        features = block_features(self.blocks, observation.double().flatten(1))
        return (features @ self.head).clamp(*self.limits)


class LearnedPopulation(NamedTuple):
    """Value functions of several runs as the parameters of one module.

    parameters: with a leading run axis
    features:   `features(body, observation)`
    blocks:     settings of `feature_blocks`
    """

    parameters: Parameters
    features: FeatureMap
    blocks: list[list[int | str]]


def in_raw_units(
    value: LinearValue,
    units: ValueUnits,
    shift: Float[Tensor, " input"],
    scale: Float[Tensor, " input"],
) -> LinearValue:
    """Return what a value of (observation − shift)/scale in units is in the user's.

    A value without blocks, a constant, gets one feature that is 0: a body needs a parameter.
    """
    blocks, head = value.blocks, value.head
    if not blocks:
        nothing = Layer(torch.zeros(len(shift), 1).to(shift), torch.zeros(1).to(shift))
        blocks, head = [Block("tanh", (nothing,))], torch.cat([torch.zeros_like(head), head])
    head = units.scale * head
    head[-1] += units.level
    return LinearValue(on_raw_inputs(blocks, shift, scale), head)


def learned_population(
    values: Sequence[LinearValue], observation_shape: Sequence[int]
) -> LearnedPopulation:
    """Put the value functions of several runs, with blocks of the same sizes, into one."""
    found = [module_parameters(value.blocks) for value in values]
    settings, names = found[0][0], found[0][1].keys()
    body = {name: torch.stack([named[name] for _, named in found]) for name in names}
    head = torch.stack([value.head for value in values])
    module = feature_blocks(observation_shape, settings)
    return LearnedPopulation(Parameters(body, head, {}), feature_map(module), settings)
