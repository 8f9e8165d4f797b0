"""The learned value function as a file: saved beside every checkpoint, loaded by one call.

The file `value.pt` holds tensors and plain values only, so that loading a stranger's file runs
none of their code; a body of the user's own is made by the user's own function.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.action_values.rows import ActionHeads
from neural_tdc.action_values.saved import SavedActions, imported
from neural_tdc.messages import first_line
from neural_tdc.networks.bodies import BODIES, initial_bodies
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.tensor_file import load_tensors
from neural_tdc.types import Body, FeatureMap

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


class Standardisation(nn.Module):
    """The first layer of a network on raw observations: subtract `shift`, divide by `scale`.

    shift, scale: [*observation], in the precision that was used for learning
    dtype:        of what is returned; `to(dtype)` changes it with the other layers
    """

    shift: Tensor
    scale: Tensor
    like: Tensor

    def __init__(self, shift: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.register_buffer("like", torch.zeros((), dtype=dtype), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the standardised observation."""
        raw = observation.to(self.shift.dtype)
        return ((raw - self.shift) / self.scale).to(self.like.dtype)


class ValueFunction:
    """V(observation) of every run that was learned, or q(observation, action) and V from it.

    Observations are raw, as the environment or the log gives them: a tensor, a NumPy array or
    nested lists, [batch, *observation] or a single one. For a finite chain, whole numbers are the
    numbers of states. Actions are as the environment or the log gives them.

    diverged:  [run]
    """

    def __init__(self, saved: dict[str, Any], module: nn.Module | None, policy: Any = None) -> None:
        self._saved, self._module = saved, module
        self._actions = None if saved.get("actions") is None else SavedActions(saved, policy)
        self._features: FeatureMap = given_features
        if module is not None:
            self._features = feature_map(self._body_of_rows(module))
        self.diverged: Tensor = saved["diverged"]
        self._first: nn.Module = nn.Identity()
        if saved["shift"] is not None:
            self._first = Standardisation(saved["shift"], saved["scale"], saved["head"].dtype)
        # Files of earlier versions have no limits.
        self._limits = saved.get("limits")

    @property
    def runs(self) -> int:
        """Return how many runs there are."""
        return len(self.diverged)

    def of_runs(self, observation: Any, action: Any = None) -> Float[Tensor, "run *batch"]:
        """Return the values for every run; one value a run for a single observation.

        action: for q(observation, action), one for each observation

        Raises ValueError for observations of another shape, states and actions that there are not,
        an action where values of states were learned, and a policy that cannot be made here.
        """
        raw, single, state = self._batch(observation)
        saved = self._saved
        head = saved["head"]
        batch = self._first(raw).to(head.dtype)
        if self._actions is not None:
            given = [action] if single and action is not None else action
            batch = self._actions.inputs(raw, batch, given, state)
        elif action is not None:
            raise ValueError("these are values of states, not of actions: give no action")
        else:
            batch = batch[None]
        flat = batch.flatten(0, 1)

        def one(body: Body, head: Tensor) -> Tensor:
            return self._features(body, flat) @ head

        with torch.no_grad():
            values = torch.vmap(one)(saved["body"], head) if saved["body"] else head @ flat.T
        values = values.view(len(head), *batch.shape[:2]).mean(1)
        if self._limits is not None:
            values = values.clamp(*self._limits)
        return values[:, 0] if single else values

    def __call__(
        self, observation: Any, action: Any = None, run: int | None = None
    ) -> Float[Tensor, "*batch"]:
        """Return V(observation) of one run, or the mean over the runs that did not diverge.

        action: for q(observation, action); V is Σ_a π(a|s)q(s, a) without it

        Raises ValueError as `of_runs`, for a run that there is not, and where all runs diverged.
        """
        if run is not None:
            return self.of_runs(observation, action)[self._checked(run)]
        return self._survivors(observation, 1, action).mean(0)

    def spread(self, observation: Any, action: Any = None) -> Float[Tensor, "*batch"]:
        """Return the standard deviation of the values over the runs that did not diverge.

        It says how much initial parameters and draws matter, not how far V is from the truth.
        Raises ValueError as `of_runs`, and where fewer than two runs did not diverge.
        """
        return self._survivors(observation, 2, action).std(0)

    def network(self, run: int = 0) -> nn.Sequential:
        """Return a copy of one run's network as a module [batch, *observation] -> [batch, 1].

        With values of actions it returns [batch, actions]; with continuous ones it takes rows
        [batch, observation and action] and returns [batch, 1].

        Its layers are the standardisation (or none, `nn.Identity`), the body and the head, and
        `nn.Hardtanh` at the limits of a value function that has some, so it takes raw
        observations. Its `state_dict()` is plain: `0.shift` and `0.scale`, the body's names under
        `1.`, the head's weight as `2.weight`.
        """
        head = self._saved["head"][self._checked(run)]
        actions = self._actions
        discrete = actions is not None and actions.rows.discrete
        heads = head.view(actions.rows.size if actions is not None and discrete else 1, -1)
        linear = nn.Linear(heads.shape[1], len(heads), bias=False, dtype=head.dtype)
        body = nn.Identity() if self._module is None else copy.deepcopy(self._module).to(head.dtype)
        prefix = "body." if discrete else ""
        with torch.no_grad():
            linear.weight.copy_(heads)
            for name, parameter in body.named_parameters():
                parameter.copy_(self._saved["body"][prefix + name][run])
        first = copy.deepcopy(self._first)
        if actions is not None and not discrete and isinstance(first, Standardisation):
            # The action's numbers stay as they are.
            none = first.shift.new_zeros(actions.rows.size)
            shift = torch.cat([first.shift.flatten(), none])
            scale = torch.cat([first.scale.flatten(), none + 1])
            first = Standardisation(shift, scale, head.dtype)
        last = [] if self._limits is None else [nn.Hardtanh(*self._limits)]
        return nn.Sequential(first, body, linear, *last)

    def _body_of_rows(self, module: nn.Module) -> nn.Module:
        """Return what takes the rows of values of actions, or the observations of V."""
        if self._actions is None or not self._actions.rows.discrete:
            return module
        rows = self._actions.rows
        return ActionHeads(module, rows.observation_shape, rows.size)

    def _survivors(self, observation: Any, least: int, action: Any) -> Tensor:
        left = int((~self.diverged).sum())
        if left < least:
            raise ValueError(
                f"{left} of {self.runs} runs did not diverge, {least} are needed; "
                "ask for one run by its number"
            )
        return self.of_runs(observation, action)[~self.diverged]

    def _checked(self, run: int) -> int:
        whole = isinstance(run, int | np.integer) and not isinstance(run, bool)
        if not whole or not 0 <= run < self.runs:
            raise ValueError(
                f"there is no run {run!r}, runs are numbered from 0 to {self.runs - 1}"
            )
        return run

    def _batch(self, observation: Any) -> tuple[Tensor, bool, Tensor | None]:
        """Return observations [batch, *observation], whether one was given, numbers of states."""
        if not isinstance(observation, Tensor):
            try:
                # A copy, since torch warns of arrays that are not writable.
                observation = torch.as_tensor(np.array(observation))
            except (TypeError, ValueError, RuntimeError) as error:
                said = first_line(error)
                raise ValueError(f"observations must be an array of numbers: {said}") from None
        if observation.is_complex():
            raise ValueError("observations must be an array of real numbers")
        table, expected = self._saved["table"], tuple(self._saved["observation_shape"])
        state: Tensor | None = None
        whole = not (observation.is_floating_point() or observation.dtype == torch.bool)
        if table is not None and whole and observation.dim() < 2:
            if observation.numel() and not 0 <= observation.min() <= observation.max() < len(table):
                raise ValueError(f"states are numbered from 0 to {len(table) - 1}")
            state = observation.long().reshape(-1)
            observation = table[observation.long()]
        if tuple(observation.shape) == expected:
            return observation[None], True, state
        if tuple(observation.shape[1:]) != expected or not observation.dim():
            raise ValueError(
                f"observations must have shape [batch, {', '.join(map(str, expected))}], "
                f"not {list(observation.shape)}"
            )
        return observation, False, state


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
