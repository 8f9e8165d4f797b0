"""Two-timescale networks (Chung, Nath, Joseph & White 2019).

The body learns by semi-gradient TD through a slow head θ̄ of its own, with its own TD error
δ̄ = r + γ_tθ̄ᵀφ' − θ̄ᵀφ; a fast linear head on the same features gives the values.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neural_tdc.rules.batch_terms import td_error
from neural_tdc.rules.composition import NO_STATE, ComposedRule, RuleState
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, StepSizes, Transition

SLOW_HEAD = "slow_head"


@dataclass(frozen=True)
class TwoTimescaleNetwork(Rule):
    """Two-timescale networks with any rule of the tables on top.

    fast_head: the rule of the head that gives the values; its own body's row is `frozen`.

    The slow head moves with the body's step size, and is kept in `Parameters.body`.
    """

    name: str
    fast_head: ComposedRule

    def __post_init__(self) -> None:
        if decay := self.fast_head.view.decay:
            raise ValueError(
                f"rule {self.name!r} with trace_decay {decay:g}: its body learns, and eligibility "
                "traces want features that do not"
            )

    @property
    def auxiliaries(self) -> tuple[str, ...]:  # type: ignore[override]
        """Name the auxiliary vectors of the fast head."""
        return self.fast_head.auxiliaries

    @property
    def best_response_head(self) -> bool:  # type: ignore[override]
        """Whether the fast head's direction is the whole way to an assignment."""
        return self.fast_head.best_response_head

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """Whether the fast head follows one stream in its order."""
        return self.fast_head.ordered

    @property
    def defined_at_truncation(self) -> bool:  # type: ignore[override]
        """Whether the fast head is."""
        return self.fast_head.defined_at_truncation

    @property
    def settings(self) -> frozenset[str]:  # type: ignore[override]
        """Name the settings of the fast head."""
        return self.fast_head.settings - {"trace_decay"}

    def with_action_values(self) -> "TwoTimescaleNetwork":
        """Return the rule where its fast head allows it."""
        self.fast_head.with_action_values()
        return self

    def with_settings(self, **settings: Any) -> "TwoTimescaleNetwork":
        """Return the rule with other settings of its fast head."""
        return replace(self, fast_head=self.fast_head.with_settings(**settings))

    def step_sizes(self, sizes: StepSizes) -> StepSizes:
        """Return the step sizes as the fast head takes them."""
        return self.fast_head.step_sizes(sizes)

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, RuleState]:
        """Give the body its slow head, a copy of the head; see `Rule.init`."""
        parameters, state = self.fast_head.init(parameters, observation, generator)
        body = {**parameters.body, SLOW_HEAD: parameters.head.clone()}
        return parameters._replace(body=body), state

    def update(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: RuleState
    ) -> RuleState:
        """Keep what the fast head keeps; see `Rule.update`."""
        return self.fast_head.update(features, parameters, batch, state)

    def directions(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        state: RuleState = NO_STATE,
    ) -> Parameters:
        """Return the fast head's directions and the slow network's; see `Rule.directions`."""

        def value(body: Any) -> Tensor:
            return features(body, batch.observation) @ body[SLOW_HEAD]

        body = parameters.body
        _, pull_back = torch.func.vjp(value, body)  # type: ignore[misc]
        error = td_error(
            batch.reward,
            batch.discount,
            features(body, batch.observation),
            features(body, batch.next_observation),
            body[SLOW_HEAD],
        )
        slow = pull_back(-batch.ratio * error / len(error))[0]
        return self.fast_head.directions(features, parameters, batch, state)._replace(body=slow)

    def omega(self, parameters: Parameters) -> tuple[Tensor, float] | None:
        """Return the fast head's ω; see `Rule.omega`."""
        return self.fast_head.omega(parameters)
