"""Fitted Q-evaluation by a target network: semi-gradient TD with targets fixed for some updates.

With W⁻ and θ⁻ a copy of body and head that is renewed every so often,
δ = r + γ_t θ⁻ᵀφ⁻(s') − θᵀφ(s), and body and head descend ½ρδ² with the target held still.

Source: Le, Voloshin & Yue 2019 (arXiv 1903.08738), in the incremental form of Mnih et al. 2015.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.rules.rule import Rule
from neural_tdc.types import Body, FeatureMap, Parameters, Transition
from neural_tdc.vector_jacobian import vjp


@dataclass(frozen=True)
class TargetNetwork(Rule):
    """Semi-gradient TD towards the values of a copy, for V or with values of actions for q.

    target_period: updates between two copies; 1 is semi-gradient TD

    State: `body` and `head`, the copy, and `age`, the updates since it was made.
    """

    settings = frozenset({"target_period"})

    name: str
    target_period: int = 100

    def with_given_features(self) -> "TargetNetwork":
        """Return the rule as it is: without a body the copy is that of the head."""
        return self

    def with_settings(self, **settings: Any) -> "TargetNetwork":
        """Return the rule with another period; see `Rule.with_settings`."""
        super().with_settings(**settings)
        return replace(self, **settings)

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, dict[str, Any]]:
        """Copy body and head; see `Rule.init`."""
        body, head, _ = parameters
        copy = tree_map(torch.clone, {"body": dict(body), "head": head})
        return parameters, {**copy, "age": head.new_zeros(())}

    def update(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: Any
    ) -> dict[str, Any]:
        """Renew a copy that is due; see `Rule.update`."""
        due = state["age"] >= self.target_period
        present = {"body": dict(parameters.body), "head": parameters.head}
        kept = {name: state[name] for name in present}
        copy = tree_map(lambda old, new: torch.where(due, new, old), kept, present)
        return {**copy, "age": torch.where(due, 0 * state["age"], state["age"]) + 1}

    def directions(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: Any
    ) -> Parameters:
        """Return the gradient of ½ρδ² with the target held still; see `Rule.directions`."""

        def value(body: Body, head: Tensor) -> Tensor:
            return features(body, batch.observation) @ head

        here, pull_back = vjp(value, parameters.body, parameters.head)
        there = features(state["body"], batch.next_observation) @ state["head"]
        error = batch.ratio * (batch.reward + batch.discount * there - here)
        body, head = pull_back(-error / len(error))
        return Parameters(body, head, {})
