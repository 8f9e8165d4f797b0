"""Activations by name: as a module, as a function, and their slopes where a value gives them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


def _unknown_slope(value: Tensor) -> Tensor:
    raise ValueError("the slope of this activation is not known from its value")


class Activation(NamedTuple):
    """An activation σ.

    module:   makes it as a layer
    function: σ
    slope:    σ'(x) as a function of the value σ(x), where it is known
    """

    module: Callable[[], nn.Module]
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] = _unknown_slope


# At its kink ReLU has the slope 0, as in torch. Smooth activations are those for which the theory
# of Algorithm 1 is claimed; ReLU is not among them.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(nn.Tanh, torch.tanh, lambda value: 1 - value.square()),
    "relu": Activation(nn.ReLU, torch.relu, lambda value: value > 0),
    "softplus": Activation(nn.Softplus, nn.functional.softplus),
    "silu": Activation(nn.SiLU, nn.functional.silu),
    "gelu": Activation(nn.GELU, nn.functional.gelu),
    "sigmoid": Activation(nn.Sigmoid, torch.sigmoid),
}
# Those of `mlp_population`, whose gradients are in closed form.
CLOSED_FORM_ACTIVATIONS = {
    name: ACTIVATIONS[name]
    for name in sorted(ACTIVATIONS)
    if ACTIVATIONS[name].slope is not _unknown_slope
}
