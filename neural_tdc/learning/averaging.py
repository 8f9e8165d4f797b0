"""Polyak–Ruppert averaging (Polyak & Juditsky 1992): the mean of the parameters of all updates.

The mean is what is measured and what gives the values; learning never reads it.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.types import Parameters

# The parts whose mean is taken, by the names of the command line.
AVERAGED_PARTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "head": ("head",),
    "all": ("body", "head", "auxiliary"),
}


class Averaging(NamedTuple):
    """Which parts are averaged, over which updates.

    parts: names of fields of `Parameters`
    after: updates at the beginning that are left out; up to there the mean is the last value
    """

    parts: tuple[str, ...] = ()
    after: int = 0


NO_AVERAGE = Averaging()


class AverageState(NamedTuple):
    """The mean of each averaged part by name, and the number of updates done, an integer."""

    mean: dict[str, Any]
    updates: Tensor


def averaging(name: str, after: int = 0, steps: int | None = None) -> Averaging:
    """Return the averaging of a name of `AVERAGED_PARTS`.

    steps: updates of a run, where they are known

    Raises ValueError in one line for another name, and where no update is left to average.
    """
    if name not in AVERAGED_PARTS:
        raise ValueError(f"average {name!r} is not one of {', '.join(AVERAGED_PARTS)}")
    if after < 0:
        raise ValueError(f"average_after is {after}; it must be at least 0")
    if name != "none" and steps is not None and after >= steps:
        raise ValueError(f"average_after is {after}; it must be below the {steps} steps")
    return Averaging(AVERAGED_PARTS[name], after)


def initial_average(averaging: Averaging, parameters: Parameters) -> Any:
    """Return the state before the first update, {} where nothing is averaged."""
    if not averaging.parts:
        return {}
    count = parameters.head.new_zeros((), dtype=torch.int64)
    return AverageState({name: getattr(parameters, name) for name in averaging.parts}, count)


def updated_average(averaging: Averaging, state: Any, parameters: Parameters) -> Any:
    """Return the state with the parameters of one more update."""
    if not averaging.parts:
        return state
    count = state.updates + 1
    weight = 1 / (count - averaging.after).clamp(min=1).to(parameters.head.dtype)
    moved = partial(torch.lerp, weight=weight)
    mean = {
        name: tree_map(moved, old, getattr(parameters, name)) for name, old in state.mean.items()
    }
    return AverageState(mean, count)


def averaged(parameters: Parameters, state: Any) -> Parameters:
    """Return the parameters with the means of the parts that are averaged; state: the means."""
    return parameters._replace(**state.mean) if state else parameters
