"""Features made of blocks in a row: learned, random, Fourier, polynomial, constant.

Every value function of this package is θᵀx(s) with x the outputs of blocks in a row and a constant
1 at the end. So one body, `feature_blocks`, describes them all, and `load_value` reads them from a
file by its name and settings.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.byte_rows import as_numbers
from neural_tdc.networks.mlp_population import Layer

# The activation after a block's last layer; its hidden layers have tanh.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "cosine": torch.cos,
    "linear": torch.Tensor.clone,
    "square": torch.square,
}

# An activation and the sizes of a block's layers, such as ["tanh", 64, 64].
BlockSettings = Sequence[int | str]


class Block(NamedTuple):
    """The parameters of one block, learned or drawn once.

    activation: `tanh`, `cosine`, `linear` or `square` after the last layer; tanh after the others
    layers:     weights [input, output] and biases [output]
    """

    activation: str
    layers: tuple[Layer, ...]


def block_features(
    blocks: Sequence[Block], inputs: Float[Tensor, "batch input"]
) -> Float[Tensor, "batch feature"]:
    """Return the outputs of all blocks, each in its own precision, and a 1, in float64."""
    # Bytes become numbers once for all blocks.
    inputs, columns = as_numbers(inputs), []
    for activation, (*hidden, last) in blocks:
        values = inputs.to(last.weight)
        for layer in hidden:
            values = torch.tanh(values @ layer.weight + layer.bias)
        values = _ACTIVATIONS[activation](values @ last.weight + last.bias)
        columns.append(values.double())
    return torch.cat([*columns, torch.ones_like(inputs[:, :1]).double()], 1)


def on_raw_inputs(
    blocks: Sequence[Block], shift: Float[Tensor, " input"], scale: Float[Tensor, " input"]
) -> list[Block]:
    """Return blocks in float64 that do to raw inputs what `blocks` do to (input − shift)/scale."""
    raw = []
    for activation, (first, *others) in blocks:
        weight = first.weight.double() / scale.double()[:, None]
        bias = first.bias.double() - shift.double() @ weight
        rest = [Layer(layer.weight.double(), layer.bias.double()) for layer in others]
        raw.append(Block(activation, (Layer(weight, bias), *rest)))
    return raw


def module_parameters(blocks: Sequence[Block]) -> tuple[list[list[int | str]], dict[str, Tensor]]:
    """Return the settings and the named parameters of `feature_blocks` for these blocks."""
    settings: list[list[int | str]] = []
    named: dict[str, Tensor] = {}
    for number, (activation, layers) in enumerate(blocks):
        settings.append([activation, *(len(layer.bias) for layer in layers)])
        for depth, (weight, bias) in enumerate(layers):
            named[f"blocks.{number}.layers.{depth}.weight"] = weight.T.contiguous()
            named[f"blocks.{number}.layers.{depth}.bias"] = bias
    return settings, named


class _BlockModule(nn.Module):
    """Linear layers with tanh between them and an activation after the last."""

    def __init__(self, activation: str, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.activation = activation

    def forward(self, values: Float[Tensor, "batch input"]) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            values = torch.tanh(layer(values))
        return _ACTIVATIONS[self.activation](last(values))


class _BlocksModule(nn.Module):
    """The outputs of several blocks and a constant 1."""

    def __init__(self, blocks: Sequence[_BlockModule]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, observation: Float[Tensor, "batch *shape"]) -> Tensor:
        inputs = observation.flatten(1)
        outputs = [block(inputs) for block in self.blocks]
        return torch.cat([*outputs, torch.ones_like(inputs[:, :1])], 1)


def feature_blocks(observation_shape: Sequence[int], blocks: Sequence[BlockSettings]) -> nn.Module:
    """Build the body [batch, *observation] → [batch, feature] of these blocks.

    blocks: the activation of a `Block` and the sizes of the layers, for every block

    Raises ValueError for an unknown activation, and for a block without layers.

    >>> feature_blocks((2,), [["tanh", 64, 64], ["cosine", 192]])(torch.zeros(1, 2)).shape
    torch.Size([1, 257])
    """
    modules = []
    for activation, *sizes in blocks:
        widths = [int(size) for size in sizes]
        if activation not in _ACTIVATIONS or not widths or min(widths) < 1:
            raise ValueError(
                f"a block is {' or '.join(_ACTIVATIONS)} and layer sizes from 1 on, not "
                f"{[activation, *sizes]}"
            )
        modules.append(_BlockModule(str(activation), [math.prod(observation_shape), *widths]))
    return _BlocksModule(modules)
