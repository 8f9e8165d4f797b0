"""What turns a direction into a step before the step size: nothing (`sgd`), or RMSProp.

One choice a part, since the time scales of body, head and auxiliary are the whole point: an
optimiser that rescales all of them alike would erase the split.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.types import Parameters

OPTIMIZER_NAMES = ("sgd", "rmsprop")


class Optimizer(NamedTuple):
    """The preconditioner of each part, `sgd` or `rmsprop`.

    decay, eps: RMSProp's α and ε as in `torch.optim.RMSprop`, whose steps these equal.
    """

    body: str = "sgd"
    head: str = "sgd"
    auxiliary: str = "sgd"
    decay: float = 0.99
    eps: float = 1e-8


SGD = Optimizer()


def initial_second_moment(optimizer: Optimizer, parameters: Parameters) -> Parameters:
    """Return zeros for each part that RMSProp keeps mean squares of, {} for the others."""
    parts = (
        tree_map(torch.zeros_like, part) if name == "rmsprop" else {}
        for name, part in zip(optimizer, parameters)
    )
    return Parameters(*parts)


def precondition(
    optimizer: Optimizer, directions: Parameters, second_moment: Parameters
) -> tuple[Parameters, Parameters]:
    """Divide each part that asks for it by the root of its running mean square."""
    steps: list[Any] = []
    kept: list[Any] = []
    for name, direction, square in zip(optimizer, directions, second_moment):
        rescaled = name == "rmsprop"
        new = (
            tree_map(partial(_mean_square, optimizer.decay), square, direction)
            if rescaled
            else square
        )
        steps.append(
            tree_map(partial(_divided, optimizer.eps), direction, new) if rescaled else direction
        )
        kept.append(new)
    return Parameters(*steps), Parameters(*kept)


def _mean_square(decay: float, old: Tensor, direction: Tensor) -> Tensor:
    return decay * old + (1 - decay) * direction.square()


def _divided(eps: float, direction: Tensor, square: Tensor) -> Tensor:
    return direction / (square.sqrt() + eps)
