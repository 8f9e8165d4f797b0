"""Tables of numbers that a user gives, read and refused with one clear line."""

from typing import Any

import torch
from torch import Tensor

from neural_tdc.metrics.transition_matrices import TOLERANCE


def numbers(name: str, given: Any, *shape: int | str) -> Tensor:
    """Return a float64 table on the CPU from a tensor, an array or nested lists.

    shape: one entry an axis, a size or a word for any size; equal words mean equal sizes. Raises
    ValueError for another shape, an empty table, or numbers that are not finite.
    """
    try:
        table = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as reason:
        raise ValueError(f"{name} is not a table of numbers: {reason}".splitlines()[0]) from None
    sizes = {axis: axis if isinstance(axis, int) else 0 for axis in shape}
    if table.ndim == len(shape):
        for axis, size in zip(shape, table.shape):
            sizes[axis] = sizes[axis] or size
    if tuple(table.shape) != tuple(sizes[axis] for axis in shape) or 0 in table.shape:
        wanted = ", ".join(str(axis) for axis in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {tuple(table.shape)}")
    if not bool(torch.isfinite(table).all()):
        place = tuple((~torch.isfinite(table)).nonzero()[0].tolist())
        raise ValueError(f"{name} holds a number that is not finite, at {place}")
    return table


def distributions(name: str, table: Tensor, axes: tuple[str, ...]) -> Tensor:
    """Return a table whose rows, along its last axis, sum to 1 to the last digit.

    axes: words for the axes before the last, to name a row by. Raises ValueError for a negative
    probability and for a row whose sum misses 1 by more than rounding.
    """

    def row(index: list[int]) -> str:
        places = [f"{axis} {number}" for axis, number in zip(axes, index)]
        return name + (" of " + ", ".join(places) if places else "")

    if bool((table < 0).any()):
        index = (table < 0).nonzero()[0].tolist()
        raise ValueError(
            f"{row(index)} has the negative probability {float(table[tuple(index)]):g}"
        )
    sums = table.sum(-1, keepdim=True)
    wrong = (sums - 1).abs() > TOLERANCE
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        raise ValueError(f"{row(index)} sums to {float(sums[tuple(index)]):.6g}, but must sum to 1")
    return table / sums
