"""Two-timescale networks (Chung, Nath, Joseph & White 2019).

The body learns by semi-gradient TD through a slow head θ̄ of its own, with its own TD error
δ̄ = r + γ_tθ̄ᵀφ' − θ̄ᵀφ; a fast linear head on the same features gives the values.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neural_tdc.rules.batch_terms import td_error
from neural_tdc.types import FeatureMap, Parameters, Transition

SLOW_HEAD = "slow_head"


@dataclass(frozen=True)
class TwoTimescaleNetwork:
    """Two-timescale networks with any rule of the tables on top.

    fast_head: the rule of the head that gives the values; its own body row is `frozen`.

    The slow head moves with the body's step size, and so stands in `Parameters.body`.
    """

    name: str
    fast_head: Any
    body: str = "semi_gradient"

    def __post_init__(self) -> None:
        if decay := getattr(self.fast_head, "trace_decay", 0.0):
            raise ValueError(
                f"rule {self.name!r} with trace_decay {decay:g}: its body learns, and eligibility "
                "traces want features that do not"
            )

    @property
    def head(self) -> str:
        """Name the head's row."""
        return self.fast_head.head

    @property
    def assigns_head(self) -> bool:
        """Whether the head's direction is an assignment, which wants a step of 1."""
        return self.fast_head.assigns_head

    @property
    def ordered(self) -> bool:
        """Whether the rule wants an ordered stream of batch 1."""
        return self.fast_head.ordered

    def with_head(self, **settings: Any) -> "TwoTimescaleNetwork":
        """Return the rule with other settings of its fast head."""
        return replace(self, fast_head=replace(self.fast_head, **settings))

    def initial(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, dict[str, Any]]:
        """Give the body its slow head, a copy of the head; see `rules.LearningRule`."""
        parameters, memory = self.fast_head.initial(parameters, observation, generator)
        body = {**parameters.body, SLOW_HEAD: parameters.head.clone()}
        return parameters._replace(body=body), memory

    def remember(
        self,
        features: FeatureMap,
        parameters: Parameters,
        memory: dict[str, Any],
        batch: Transition,
    ) -> dict[str, Any]:
        """Keep what the fast head keeps; see `rules.LearningRule`."""
        return self.fast_head.remember(features, parameters, memory, batch)

    def directions(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        memory: dict[str, Any] | None = None,
    ) -> Parameters:
        """Return the fast head's directions and the slow network's; see `rules.LearningRule`."""

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
        return self.fast_head.directions(features, parameters, batch, memory)._replace(body=slow)

    def omega(self, parameters: Parameters) -> tuple[Tensor, float] | None:
        """Return the fast head's ω; see `rules.Rule.omega`."""
        return self.fast_head.omega(parameters)
