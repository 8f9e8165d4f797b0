"""Optimisers: from a direction and a step size to what is subtracted, a pair of functions each.

As in optax, `init` makes an optimiser's state and `update` uses it. There is one optimiser a part,
since the time scales of body, head and auxiliary are the whole point: an optimiser that rescales
all of them alike would erase the split.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.types import Parameters, StepSizes


class Optimizer(NamedTuple):
    """An optimiser of one part of the parameters.

    init:   from the part, a tree of tensors, to the optimiser's state; {} for one that keeps none
    update: from (direction, state, step size) to (what is subtracted from the part, new state)
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


class AdamState(NamedTuple):
    """What Adam keeps of a part.

    first, second: running means of the direction and of its square, shaped as the part
    updates:       done so far, an integer
    """

    first: Any
    second: Any
    updates: Tensor


def sgd() -> Optimizer:
    """Return plain steps: size · direction."""

    def update(direction: Any, state: Any, size: Any) -> tuple[Any, Any]:
        return tree_map(functools.partial(operator.mul, size), direction), state

    return Optimizer(lambda part: {}, update)


def rmsprop(decay: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """Return RMSProp, in float64 to the bit that of `torch.optim.RMSprop`; decay is its alpha."""

    def update(direction: Any, state: Any, size: Any) -> tuple[Any, Any]:
        state = tree_map(functools.partial(_mean_square, decay), state, direction)
        divided = functools.partial(_divided, size, 1.0, eps)
        return tree_map(divided, direction, state), state

    return Optimizer(functools.partial(tree_map, torch.zeros_like), update)


def adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Return Adam (Kingma & Ba 2015), in float64 to the bit that of `torch.optim.Adam`."""

    def init(part: Any) -> AdamState:
        zeros = functools.partial(tree_map, torch.zeros_like)
        count = tree_leaves(part)[0].new_zeros((), dtype=torch.int64)
        # Brings the table to the device before an update, which must not wait for it, needs it.
        _bias_corrections(beta1, beta2, count.device)
        return AdamState(zeros(part), zeros(part), count)

    def update(direction: Any, state: AdamState, size: Any) -> tuple[Any, AdamState]:
        count = state.updates + 1
        first = tree_map(functools.partial(torch.lerp, weight=1 - beta1), state.first, direction)
        second = tree_map(functools.partial(_mean_square, beta2), state.second, direction)
        table = _bias_corrections(beta1, beta2, count.device)
        row = table.index_select(0, count.clamp(max=len(table) - 1).reshape(1))[0]
        # A number divided by a tensor is multiplied by its reciprocal: other last bits.
        step = torch.as_tensor(size, dtype=row.dtype, device=row.device) / row[0]
        divided = functools.partial(_divided, step, row[1], eps)
        return tree_map(divided, first, second), AdamState(first, second, count)

    return Optimizer(init, update)


def _divided(size: Any, root: Any, eps: float, mean: Tensor, square: Tensor) -> Tensor:
    """Return size·mean/(√square/root + ε) in the dtype of `mean`."""
    if isinstance(root, Tensor):
        size, root = size.to(mean.dtype), root.to(mean.dtype)
    return size * mean / (square.sqrt() / root + eps)


def _mean_square(decay: float, old: Tensor, direction: Tensor) -> Tensor:
    # The operations of torch's optimisers: a formula in other words has other last bits.
    return torch.addcmul(old * decay, direction, direction, value=1 - decay)


@functools.cache
def _bias_corrections(beta1: float, beta2: float, device: torch.device) -> Tensor:
    """Return [update, 2]: 1 − β₁ᵏ and √(1 − β₂ᵏ), up to the k from which on both are 1.

    By a table, since powers of Python's numbers, as torch's Adam takes them, and powers of tensors
    differ in their last bits. Row 0 belongs to no update.
    """
    largest = max(beta1, beta2)
    rows = 2 if largest == 0 else 2 + math.ceil(-54 * math.log(2) / math.log(largest))
    corrections = [(1 - beta1**k, (1 - beta2**k) ** 0.5) for k in range(rows)]
    return torch.tensor(corrections, dtype=torch.float64, device=device)


def limited(optimizer: Optimizer, max_grad_norm: float) -> Optimizer:
    """Return an optimiser that sees the direction shrunk to at most a Euclidean norm.

    The norm is that of the part, all its tensors taken as one vector, of one run: as
    `torch.nn.utils.clip_grad_norm_` on the part's parameters.
    """

    def update(direction: Any, state: Any, size: Any) -> tuple[Any, Any]:
        norms = [torch.linalg.vector_norm(each) for each in tree_leaves(direction)]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        factor = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        shrunk = tree_map(functools.partial(torch.mul, factor), direction)
        return optimizer.update(shrunk, state, size)

    return Optimizer(optimizer.init, update)


OPTIMIZER_MAKERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adam": adam,
}
SGD = sgd()


class PartOptimizers(NamedTuple):
    """The optimiser of each part, as in `PartOptimizers(body=adam(eps=1e-4))`."""

    body: Optimizer = SGD
    head: Optimizer = SGD
    auxiliary: Optimizer = SGD


PLAIN_STEPS = PartOptimizers()


def part_optimizers(
    names: str | Sequence[str], max_grad_norm: float | None = None
) -> PartOptimizers:
    """Return the optimisers of names of `OPTIMIZER_MAKERS`, one for all parts or three.

    max_grad_norm: the largest norm of each part's direction, of each run; None for no limit

    Raises ValueError in one line for another name or number of names, and another limit.
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    if len(given) not in (1, 3):
        raise ValueError("optimizer: give one name, or three for body, head and auxiliary")
    for name in given:
        if name not in OPTIMIZER_MAKERS:
            raise ValueError(f"optimizer {name!r} is not one of {', '.join(OPTIMIZER_MAKERS)}")
    parts = [OPTIMIZER_MAKERS[name]() for name in (given * 3 if len(given) == 1 else given)]
    if max_grad_norm is not None:
        if not 0 < max_grad_norm < math.inf:
            raise ValueError(f"max_grad_norm is {max_grad_norm:g}; it must be finite and above 0")
        parts = [limited(part, max_grad_norm) for part in parts]
    return PartOptimizers(*parts)


def initial_optimizer_state(optimizers: PartOptimizers, parameters: Parameters) -> Parameters:
    """Return each optimiser's state of its part, {} for a part without parameters."""
    pairs = zip(optimizers, parameters)
    return Parameters(*(each.init(part) if tree_leaves(part) else {} for each, part in pairs))


def optimized(
    optimizers: PartOptimizers, directions: Parameters, state: Parameters, step_sizes: StepSizes
) -> tuple[Parameters, Parameters]:
    """Return what is subtracted from each part, and the optimisers' new states."""
    found = [
        each.update(direction, kept, size) if tree_leaves(direction) else (direction, kept)
        for each, direction, kept, size in zip(optimizers, directions, state, step_sizes)
    ]
    subtracted, states = zip(*found)
    return Parameters(*subtracted), Parameters(*states)
