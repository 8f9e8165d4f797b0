"""The file of a learned value function: saved next to every checkpoint, loaded by one call.

The file `value.pt` holds tensors and plain values only, so that loading a stranger's file runs
none of their code; a body of the user's own is made by the user's own function.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neural_tdc.action_values.saved import imported
from neural_tdc.messages import first_line
from neural_tdc.networks.bodies import BODIES, initial_bodies
from neural_tdc.tensor_file import load_tensors
from neural_tdc.value_function import ValueFunction

FILE = "value.pt"
FORMAT = "neural_tdc value 1"
_KEYS = {"body", "head", "diverged", "make", "observation_shape", "shift", "scale", "table"}


def description(
    body: dict[str, Tensor],
    head: Tensor,
    diverged: Tensor,
    *,
    make: dict[str, Any] | None,
    observation_shape: tuple[int, ...],
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    table: Tensor | None = None,
    actions: dict[str, Any] | None = None,
    limits: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return what `value.pt` holds, written by `neural_tdc.tensor_file.save_tensors`.

    body, head, diverged: parameters with a leading run axis
    make:         {"name": of `networks.BODIES` or module:function, "settings": its keywords,
                  "seed": that of `initial_bodies`, which draws buffers that are not learned};
                  None where features are given
    shift, scale: what raw observations have subtracted and are divided by
    table:        [state, *observation] the observation of every state of a finite chain
    actions:      of `action_values.saved.action_record` for values of actions
    limits:       the least and the largest value; one outside is replaced by the nearest of them
    """
    return {
        "format": FORMAT,
        "body": {name: tensor.detach().cpu().clone() for name, tensor in body.items()},
        "head": head.detach().cpu().clone(),
        "diverged": diverged.cpu(),
        "make": make,
        "observation_shape": list(observation_shape),
        "shift": None if shift is None else shift.cpu(),
        "scale": None if scale is None else scale.cpu(),
        "table": None if table is None else table.detach().cpu().clone(),
        "actions": actions,
        "limits": None if limits is None else [*limits],
    }


def load_value(folder: str | Path, policy: Any = None) -> ValueFunction:
    """Load the value function of a finished or running run folder.

    policy: with values of actions, the evaluated policy for V, in place of the one that the file
        names (see `neural_tdc.action_values.policies`)

    Raises ValueError in one line where there is none, with the folders of the rules where `folder`
    holds several, and where the file is damaged or a stranger's, or a body of one's own cannot be
    made here.
    """
    path = Path(folder)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if is_folder:
        rules = sorted(str(found.parent) for found in path.glob(f"*/{FILE}"))
        if rules and not (path / FILE).exists():
            raise ValueError(f"{path} holds several rules; load one of {', '.join(rules)}")
        path = path / FILE
    if not path.exists():
        raise ValueError(f"{path} does not exist: the run has not saved a value function yet")
    saved = load_tensors(path, FORMAT, "value function of this library")
    if not saved.keys() >= _KEYS:
        raise ValueError(f"{path} is not a value function of this library")
    if policy is not None and saved.get("actions") is None:
        raise ValueError(f"{path} holds values of states, which need no policy")
    return ValueFunction(saved, _module(saved), policy)


def _module(saved: dict[str, Any]) -> nn.Module | None:
    """Return the body; ValueError where it is not the one that was learned."""
    make = saved["make"]
    if make is None:
        return None
    name, settings = make["name"], make["settings"]
    builder: Callable[..., nn.Module] = BODIES[name] if name in BODIES else imported("body", name)
    shape, prefix = tuple(saved["observation_shape"]), ""
    if (actions := saved.get("actions")) is not None:
        prefix = "body." if actions["discrete"] else ""
        shape = shape if actions["discrete"] else (math.prod(shape) + actions["size"],)
    try:
        module, _ = initial_bodies(lambda shape: builder(shape, **settings), shape, make["seed"], 1)
    except Exception as error:
        said = first_line(error)
        raise ValueError(f"the body {name} cannot be made here: {said}") from None
    for parameter, tensor in module.named_parameters():
        learned = saved["body"].get(prefix + parameter)
        if learned is None or learned.shape[1:] != tensor.shape:
            raise ValueError(
                f"the body {name} is not the one that was learned: {parameter} has the shape "
                f"{list(tensor.shape)}, "
                + ("it was not there" if learned is None else f"it had {list(learned.shape[1:])}")
            )
    return module
