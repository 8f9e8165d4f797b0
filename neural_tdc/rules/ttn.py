"""Two-timescale networks (Chung, Nath, Joseph & White 2019).

The body learns by semi-gradient TD through a slow head θ̄ of its own, with its own TD error
δ̄ = r + γ_tθ̄ᵀφ' − θ̄ᵀφ; a fast linear head on the same features gives the values.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neural_tdc.rules.batch_terms import td_error
from neural_tdc.rules.composition import NO_STATE, ComposedRule, RuleState
from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, Transition
from neural_tdc.vector_jacobian import vjp

SLOW_HEAD = "slow_head"


@dataclass(frozen=True)
class TwoTimescaleNetwork(ComposedRule):
    """Two-timescale networks with any head of the tables as the fast one, on a frozen body's row.

    The slow head moves with the body's step size, and is kept in `Parameters.body`.
    """

    learns_body = True
    body_stands_still = False
    under_best_response = None
    with_given_features = Rule.with_given_features  # type: ignore[assignment]
    with_lambda_returns = Rule.with_lambda_returns  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if decay := self.view.decay:
            raise ValueError(
                f"rule {self.name!r} with trace_decay {decay:g}: its body learns, and eligibility "
                "traces need features that do not learn"
            )

    @property
    def settings(self) -> frozenset[str]:  # type: ignore[override]
        """Name the settings of the fast head."""
        return super().settings - {"trace_decay"}

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, RuleState]:
        """Give the body its slow head, drawn like a layer; see `Rule.init`.

        A layer from φ to one output by Glorot & Bengio (2010): uniform in ±√(6/(d + 1)), while the
        fast head is 0. From 0 the slow head would keep the body still for some 1/α updates. Source:
        `xavier_uniform_` of `fc4` in TTN_network.py of github.com/MHashemzadeh/Offline-Online-RL, a
        later study with these networks; code of Chung et al. (2019) itself was not found.
        """
        parameters, state = super().init(parameters, observation, generator)
        size = len(parameters.head)
        uniform = 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
        slow = math.sqrt(6 / (size + 1)) * uniform
        body = {**parameters.body, SLOW_HEAD: slow.to(parameters.head)}
        return parameters._replace(body=body), state

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
        _, pull_back = vjp(value, body)
        error = td_error(
            batch.reward,
            batch.discount,
            features(body, batch.observation),
            features(body, batch.next_observation),
            body[SLOW_HEAD],
        )
        slow = pull_back(-batch.ratio * error / len(error))[0]
        return super().directions(features, parameters, batch, state)._replace(body=slow)
