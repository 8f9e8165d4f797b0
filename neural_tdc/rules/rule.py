"""What a learning rule is to those who use it.

The named rules are in `neural_tdc.rules.registry`, composed of the parts of the tables by
`neural_tdc.rules.composition`. A rule of the user's own is a class that inherits from `Rule`.
"""

from typing import Any

import torch
from torch import Tensor

from neural_tdc.types import FeatureMap, Parameters, StepSizes, Transition


class Rule:
    """A learning rule, with defaults for all that a rule of the user's own need not say.

    It has a `name` and writes `directions`; `init` and `update` where it keeps more than body and
    head. All of it acts on one run; many runs are `torch.vmap` of it.

    best_response_head:    whether the head's direction is the whole way to an assignment, which
        no optimiser rescales
    learns_body:           whether the body learns
    body_stands_still:     whether a body that could learn does not, under this head
    auxiliaries:           names of the auxiliary vectors that it keeps
    ordered:               whether it follows one stream in its order, by batches of 1
    defined_at_truncation: whether a stream may be cut by time limits
    settings:              names of the settings that `with_settings` takes
    under_best_response:   name of the rule with the same body under an LSTD head, None for none
    """

    name: str
    best_response_head: bool = False
    learns_body: bool = True
    body_stands_still: bool = False
    auxiliaries: tuple[str, ...] = ()
    ordered: bool = False
    defined_at_truncation: bool = True
    settings: frozenset[str] = frozenset()
    under_best_response: str | None = None

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, Any]:
        """Return the parameters with auxiliary vectors, and the rule's state before any batch.

        parameters:  body and head of one run; `auxiliary` is {}
        observation: [sample, *observation], a sample of what will be seen
        """
        return parameters, {}

    def update(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: Any
    ) -> Any:
        """Return the state with a batch taken in, before the directions of that batch are taken."""
        return state

    def directions(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: Any
    ) -> Parameters:
        """Return what is subtracted after multiplication by the step sizes, a mean over the batch.

        features: `features(body, observation) -> [batch, d]`
        state:    what `init` and `update` return
        """
        raise NotImplementedError(f"{type(self).__name__} has no method directions")

    def step_sizes(self, sizes: StepSizes) -> StepSizes:
        """Return the step sizes that the rule takes where these are given."""
        return sizes

    def omega(self, parameters: Parameters) -> tuple[Tensor, float] | None:
        """Return the ω that estimates ω* = (C + εI)⁻¹E[ρδφ], and ε; None without an estimate."""
        return None

    def with_given_features(self) -> "Rule":
        """Return the rule for features that are given; ValueError for one that learns a body."""
        raise ValueError(
            f"rule {self.name!r} learns a body: it needs neural features, not given ones"
        )

    def with_action_values(self) -> "Rule":
        """Return the rule for values of actions, from rows of `neural_tdc.action_values.rows`.

        Raises ValueError for a rule that is another one there, since no ratio weighs its errors.
        """
        return self

    def with_lambda_returns(self, decay: float) -> "Rule":
        """Return the rule with λ over the segments of a batch; ValueError for one without.

        decay: λ in [0, 1]; a batch is then made of consecutive transitions, and `first` is 1 where
            a segment or an episode begins
        """
        if decay:
            raise ValueError(f"trace_decay {decay:g} is not defined for the rule {self.name!r}")
        return self

    def with_settings(self, **settings: Any) -> "Rule":
        """Return the rule with other settings; ValueError for one that it does not have."""
        if unknown := settings.keys() - self.settings:
            raise ValueError(f"rule {self.name!r} has no setting {' or '.join(sorted(unknown))}")
        return self
