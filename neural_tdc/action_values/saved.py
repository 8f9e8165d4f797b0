"""Values of actions in a file: what V(s) = Σ_a π(a|s)q(s, a) needs beyond body and head."""

import importlib
import os
import sys
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.action_values.preparation import state_rows
from neural_tdc.action_values.rows import ActionRows
from neural_tdc.messages import first_line


def imported(what: str, name: str) -> Any:
    """Return module:function, looked for in the present directory too.

    Raises ValueError in one line, with `what` it is, where it cannot be imported.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # Whatever a user's module raises when it is imported.
        said = first_line(error)
        raise ValueError(f"the {what} {name} cannot be imported here: {said}") from None


def action_record(
    rows: ActionRows,
    *,
    lowest: int = 0,
    bounds: tuple[Tensor, Tensor] | None = None,
    policy: str | None = None,
    settings: dict[str, Any] | None = None,
    probability: Float[Tensor, "state action"] | None = None,
) -> dict[str, Any]:
    """Return what a file of values holds of actions and of the evaluated policy.

    lowest:      the number of the first action, as the environment counts them
    bounds:      [action] between which continuous actions are executed
    policy:      module:function, the policy, or what makes it where `settings` are given
    settings:    the keywords of that function
    probability: π of every state of a finite chain
    """
    return {
        "size": rows.size,
        "discrete": rows.discrete,
        "lowest": lowest,
        "bounds": None if bounds is None else tuple(bound.cpu() for bound in bounds),
        "policy": policy,
        "settings": settings,
        "probability": None if probability is None else probability.cpu(),
    }


class SavedActions:
    """The actions of a file of values.

    policy: the evaluated policy, in place of the one that the file names
    """

    def __init__(self, saved: dict[str, Any], policy: Any) -> None:
        self._record = saved["actions"]
        self._policy, self._table = policy, saved["table"]
        self._bounds = self._record["bounds"]
        shape = tuple(saved["observation_shape"])
        size, discrete = self._record["size"], self._record["discrete"]
        self.rows = ActionRows(shape, size, discrete, given=saved["make"] is None)

    def inputs(
        self,
        raw: Tensor,
        observation: Tensor,
        action: Any,
        state: Int[Tensor, " n"] | None,
    ) -> Float[Tensor, "draw n row"]:
        """Return rows whose mean value over `draw` is q(s, a), or V(s) where `action` is None.

        raw, observation: [n, …] as they came, and as the body takes them
        action:           [n] numbers as the environment counts them, or continuous actions
        state:            numbers of a finite chain's states, where these were given

        Raises ValueError in one line for actions that there are not, and for a policy that cannot
        be made here.
        """
        if action is not None:
            given = torch.as_tensor(action, device=raw.device)
            if self.rows.discrete:
                given = given.expand(len(raw)) - self._record["lowest"]
            weights = self.rows.weights(given, observation.flatten(1)[:, 0])
            if self._bounds is not None:
                weights = weights.clamp(*(bound.to(weights) for bound in self._bounds))
            return self.rows.at(observation, weights)[None]
        probability = self._record["probability"]
        if self._policy is None and probability is not None:
            known = self._states(raw) if state is None else state
            return self.rows.at(observation, probability[known])[None]
        # In the precision in which the programs show observations to a policy.
        return state_rows(self.rows, self._evaluated(), raw.float(), observation, self._bounds)

    def _states(self, raw: Tensor) -> Int[Tensor, " n"]:
        same = (raw[:, None] == self._table).flatten(2).all(2)
        if not bool(same.any(1).all()):
            raise ValueError(
                "V needs the policy, which is known at the chain's own observations only: give "
                "numbers of states, an action, or load_value(…, policy=…)"
            )
        return same.int().argmax(1)

    def _evaluated(self) -> Any:
        """Return the policy, made once."""
        if self._policy is None:
            name, settings = self._record["policy"], self._record["settings"]
            if name is None:
                raise ValueError(
                    "the policy of these values is in no module that could be imported: give an "
                    "action, or load_value(…, policy=…)"
                )
            try:
                found = imported("policy", name)
                self._policy = found if settings is None else found(**settings)
            except Exception as error:  # A user's own function, which can fail in any way.
                said = first_line(error)
                raise ValueError(f"{said}; give an action, or load_value(…, policy=…)") from None
        return self._policy
