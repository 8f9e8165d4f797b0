"""A rule composed of a body's row and a head's row of the tables."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_tdc.rules.auxiliaries import AuxiliaryRow
from neural_tdc.rules.batch_terms import InnerProducts, batch_terms
from neural_tdc.rules.bodies import BodyRow, FrozenBody
from neural_tdc.rules.feature_pair import pair_of_features, pulled_back
from neural_tdc.rules.heads import HeadRow
from neural_tdc.rules.lambda_returns import segment_view
from neural_tdc.rules.parts import Context, PartState, settings_of, with_part_settings
from neural_tdc.rules.rule import Rule
from neural_tdc.rules.traces import traced_view
from neural_tdc.rules.views import OneStepView
from neural_tdc.types import FeatureMap, Parameters, StepSizes, Transition


class RuleState(NamedTuple):
    """The states of a composed rule's parts, {} for a part without one.

    auxiliary: {name of the auxiliary vector: its part's state}
    """

    body: PartState
    head: PartState
    weight: PartState
    view: PartState
    auxiliary: dict[str, PartState]


NO_STATE = RuleState({}, {}, {}, {}, {})


@dataclass(frozen=True)
class ComposedRule(Rule):
    """A body's row and a head's row, by `compose`.

    view: λ = 0, or λ by the forward view (`LambdaReturns`) or the backward (`EligibilityTraces`)
    """

    name: str
    body: BodyRow
    head: HeadRow
    view: OneStepView = field(default_factory=OneStepView)

    @property
    def parts_of_auxiliaries(self) -> dict[str, AuxiliaryRow]:
        """Return the auxiliary vectors kept: the head's own, then the one the body still needs."""
        own = self.head.auxiliary
        parts = {} if own is None else {own.name: own}
        if self.body.auxiliary is not None and self._read_by_body(parts) is None:
            parts[self.body.auxiliary.name] = self.body.auxiliary
        return parts

    def _read_by_body(self, parts: dict[str, AuxiliaryRow]) -> str | None:
        return next((name for name in self.body.reads if name in parts), None)

    @property
    def auxiliaries(self) -> tuple[str, ...]:  # type: ignore[override]
        """Name the auxiliary vectors kept."""
        return tuple(self.parts_of_auxiliaries)

    @property
    def best_response_head(self) -> bool:  # type: ignore[override]
        """Whether the head's direction is the whole way to an assignment."""
        return self.head.best_response

    @property
    def learns_body(self) -> bool:  # type: ignore[override]
        """Whether the body learns."""
        return self.body.learns

    @property
    def body_stands_still(self) -> bool:  # type: ignore[override]
        """Whether the body rests wherever the head is a best response, and it always is."""
        return self.head.best_response and self.body.rests_at_best_response

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """Whether the weight or the view follows one stream in its order."""
        return self.head.weight.ordered or self.view.ordered

    @property
    def defined_at_truncation(self) -> bool:  # type: ignore[override]
        """Whether the weight is; an eligibility trace ends where an episode is cut."""
        return self.head.weight.defined_at_truncation

    @property
    def settings(self) -> frozenset[str]:  # type: ignore[override]
        """Name the settings of all parts."""
        own = {"trace_decay"} if self.head.traced or self.head.segmented else set()
        return settings_of(self.body) | settings_of(self.head) | own

    @property
    def under_best_response(self) -> str | None:  # type: ignore[override]
        """Name the same body under an LSTD head; an ordered weight has no such head."""
        return None if self.head.weight.ordered else f"{self.body.name}+lstd"

    def with_given_features(self) -> "ComposedRule":
        """Return the rule for given features, whose body does not learn."""
        return replace(self, body=FrozenBody())

    def with_action_values(self) -> "ComposedRule":
        """Return the rule; ValueError for a head that is TD without ratios."""
        if self.head.differs_by_ratio:
            raise ValueError(
                f"rule {self.name!r} is TD for values of actions, where no ratio weighs an error: "
                f"use td or {self.body.name}+td"
            )
        return self

    def with_settings(self, **settings: Any) -> "ComposedRule":
        """Return the rule with other settings of its parts; see `Rule.with_settings`.

        trace_decay: λ of the eligibility traces of `neural_tdc.rules.traces`; 0 for none
        """
        decay = settings.pop("trace_decay", self.view.decay)
        super().with_settings(**settings)
        view = self.view if decay == self.view.decay else traced_view(decay, self.head)
        body = with_part_settings(self.body, settings)
        return replace(self, body=body, head=with_part_settings(self.head, settings), view=view)

    def with_lambda_returns(self, decay: float) -> "ComposedRule":
        """Return the rule with λ over segments of a stream; see `Rule.with_lambda_returns`."""
        return replace(self, view=segment_view(decay, self.head))

    def step_sizes(self, sizes: StepSizes) -> StepSizes:
        """Return the step sizes, the head's as its row takes it."""
        return sizes._replace(head=self.head.step_size(sizes.head))

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, RuleState]:
        """Set every auxiliary vector to 0 and draw what the parts keep; see `Rule.init`.

        Raises ValueError for eligibility traces with a body that learns.
        """
        if self.view.ordered and self.body.learns:
            raise ValueError(
                f"rule {self.name!r} with trace_decay {self.view.decay:g} needs given features or "
                f"a frozen body, not the body {self.body.name!r}, which learns: use the sampling "
                "'sequences'"
            )
        auxiliaries = self.parts_of_auxiliaries
        sample = (parameters, observation, generator)
        state = RuleState(
            body=self.body.init(*sample),
            head=self.head.init(*sample),
            weight=self.head.weight.init(*sample),
            view=self.view.init(*sample),
            auxiliary={name: part.init(*sample) for name, part in auxiliaries.items()},
        )
        vectors = {name: part.start(parameters, observation) for name, part in auxiliaries.items()}
        return parameters._replace(auxiliary=vectors), state

    def update(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: RuleState
    ) -> RuleState:
        """Let every part take in the batch; see `Rule.update`."""
        # The credit is that of the new state of the view, which is found first.
        context = Context(
            features, parameters, batch, lambda feature: self.view.credit(feature, batch, view)
        )
        view = self.view.update(context, state.view)
        auxiliaries = self.parts_of_auxiliaries
        return RuleState(
            body=self.body.update(context, state.body),
            head=self.head.update(context, state.head),
            weight=self.head.weight.update(context, state.weight),
            view=view,
            auxiliary={
                name: auxiliaries[name].update(context, kept)
                for name, kept in state.auxiliary.items()
            },
        )

    def directions(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        state: RuleState = NO_STATE,
    ) -> Parameters:
        """Return the three directions of one batch; see `Rule.directions`.

        A rule whose parts keep no state can do without one.
        """
        body, head, vectors = parameters
        feature, next_feature, pull_back = pair_of_features(
            features, body, batch, self.body.reaches_next
        )
        ratio = self.head.weight.ratio(batch, state.weight)
        one_step = batch_terms(batch, feature, next_feature, head, ratio)
        s = self.view.terms(one_step, batch, state.view)
        spaces: dict[str, Tensor] = {}
        inner: dict[str, InnerProducts] = {}
        auxiliaries = self.parts_of_auxiliaries
        for name, part in auxiliaries.items():
            spaces[name] = part.space(features, batch, feature, state.auxiliary.get(name, {}))
            of_feature = part.feature_part(vectors[name], len(head))
            inner[name] = s.inner_products(spaces[name], vectors[name], of_feature)
        own = None if self.head.auxiliary is None else inner[self.head.auxiliary.name]
        read = self._read_by_body(auxiliaries)
        cotangents = self.body.cotangents(s, None if read is None else inner[read], state.body)
        return Parameters(
            body=pulled_back(body, cotangents, pull_back),
            head=self.head.direction(s, own, state.head),
            auxiliary={
                name: part.direction(s, inner[name], spaces[name])
                for name, part in auxiliaries.items()
            },
        )

    def omega(self, parameters: Parameters) -> tuple[Tensor, float] | None:
        """Return ω and the regulariser of the ω* = (C + εI)⁻¹E[ρδφ] that it estimates, if any.

        With λ it estimates (C + εI)⁻¹E[δz], which is another vector.
        """
        if self.view.decay:
            return None
        for name, part in self.parts_of_auxiliaries.items():
            if part.regulariser is not None:
                return parameters.auxiliary[name], part.regulariser
        return None


def compose(body: BodyRow, head: HeadRow, name: str | None = None) -> ComposedRule:
    """Return the rule of a body and a head, named `body+head` if not otherwise.

    Raises ValueError for a pair that is not legal.
    """
    name = name or f"{body.name}+{head.name}"
    if head.weight.reweighs and not body.any_weight:
        raise ValueError(
            f"rule {name!r}: the head {head.name!r} reweighs every sample and goes with the bodies "
            "semi_gradient and frozen only"
        )
    return ComposedRule(name, body, head)
