"""The learned value function as a file: saved beside every checkpoint, loaded by one call.

The file `value.pt` holds tensors and plain values only, so that loading a stranger's file runs
none of their code; a body of the user's own is made by the user's own function.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.networks.bodies import BODIES
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.types import Body

FILE = "value.pt"
FORMAT = "neural_tdc value 1"


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
) -> dict[str, Any]:
    """Return what `value.pt` holds.

    body, head, diverged: parameters with a leading run axis
    make:         {"name": of `networks.BODIES` or module:function, "settings": its keywords};
                  None where features are given
    shift, scale: what raw observations have subtracted and are divided by
    table:        [state, *observation] the observation of every state of a finite chain
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
    }


class ValueFunction:
    """V(observation) of every run that was learned.

    diverged:  [run]
    """

    def __init__(self, saved: dict[str, Any], module: nn.Module | None) -> None:
        self._saved, self._module = saved, module
        self._features = given_features if module is None else feature_map(module)
        self.diverged: Tensor = saved["diverged"]

    @property
    def runs(self) -> int:
        """Return how many runs there are."""
        return len(self.diverged)

    def of_runs(self, observation: Tensor) -> Float[Tensor, "run batch"]:
        """Return the values of raw observations, or of a chain's state numbers, for every run."""
        saved = self._saved
        if saved["table"] is not None and not observation.is_floating_point():
            observation = saved["table"][observation]
        expected = tuple(saved["observation_shape"])
        if tuple(observation.shape[1:]) != expected:
            raise ValueError(
                f"observations must have shape [batch, {', '.join(map(str, expected))}], "
                f"not {list(observation.shape)}"
            )
        head = saved["head"]
        if saved["shift"] is not None:
            # In the precision that they were standardised in for learning.
            shift, scale = saved["shift"], saved["scale"]
            observation = (observation.to(shift.dtype) - shift) / scale
        observation = observation.to(head.dtype)

        def one(body: Body, head: Tensor) -> Tensor:
            return self._features(body, observation) @ head

        with torch.no_grad():
            if not saved["body"]:
                return head @ observation.T
            return torch.vmap(one)(saved["body"], head)

    def __call__(self, observation: Tensor, run: int | None = None) -> Float[Tensor, " batch"]:
        """Return V(observation) of one run, or the mean over the runs that did not diverge."""
        values = self.of_runs(observation)
        return values[~self.diverged].mean(0) if run is None else values[run]

    def network(self, run: int = 0) -> nn.Module:
        """Return one run's network as a module [batch, *standardised observation] -> [batch, 1].

        Its `state_dict()` is plain: names of the body under `0.`, the head's weight as `1.weight`.
        """
        head = self._saved["head"][run]
        linear = nn.Linear(len(head), 1, bias=False, dtype=head.dtype)
        body = nn.Identity() if self._module is None else self._module.to(head.dtype)
        names = dict(body.named_parameters())
        with torch.no_grad():
            linear.weight.copy_(head[None])
            for name, tensor in self._saved["body"].items():
                if name in names:
                    names[name].copy_(tensor[run])
        return nn.Sequential(body, linear)


def load_value(folder: str | Path) -> ValueFunction:
    """Load the value function of a finished or running run folder.

    Raises ValueError in one line where there is none, or the file is damaged or a stranger's, or a
    body of one's own cannot be made here.
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        raise ValueError(f"{path} does not exist: the run has not saved a value function yet")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise ValueError(f"{path} is damaged, or no value function: {said}") from None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f"{path} is no value function of this library")
    return ValueFunction(saved, _module(saved))


def _module(saved: dict[str, Any]) -> nn.Module | None:
    make = saved["make"]
    if make is None:
        return None
    name, settings = make["name"], make["settings"]
    builder: Callable[..., nn.Module] = BODIES[name] if name in BODIES else _imported(name)
    return builder(tuple(saved["observation_shape"]), **settings)


def _imported(name: str) -> Callable[..., nn.Module]:
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the body {name} cannot be imported here: {error}") from None
