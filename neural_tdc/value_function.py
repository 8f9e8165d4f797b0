"""A learned value function: V, or q, of raw observations."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.action_values.rows import ActionHeads
from neural_tdc.action_values.saved import SavedActions
from neural_tdc.messages import first_line
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.types import Body, FeatureMap


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
        """Return the standardised observations, of the shape of the raw ones, [n, …]."""
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

        observation: raw, [n, …] or […]; action: with values of actions, [n] or [n, …]
        It shows the effect of initial parameters and draws, not the distance from the true values.
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
