"""The parts that a rule is composed of: body, head, auxiliary vector, weight and view.

A part is a frozen dataclass: its fields are its settings, named as `with_settings` and the command
line name them, or further parts. A part may keep a state, a tree of tensors, by `init` and
`update`. All of it acts on one run; many runs are `torch.vmap` of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from neural_tdc.types import FeatureMap, Parameters, Transition

PartState = dict[str, Any]
PartT = TypeVar("PartT", bound="Part")


class Context(NamedTuple):
    """What a part may look at when it takes in a batch.

    features:   `features(body, observation) -> [batch, feature]`
    parameters: before the update
    batch:      the transitions that the update will learn from
    credit:     from φ, [batch, feature], to what the batch's TD errors are credited to: ρφ, or with
                λ the eligibility trace, [batch, feature]
    """

    features: FeatureMap
    parameters: Parameters
    batch: Transition
    credit: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """A part without a state; the others override `init` and `update`."""

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> PartState:
        """Return the state before the first batch, in the dtype and device of the head.

        observation: [sample, *observation], a sample of what will be seen
        """
        return {}

    def update(self, context: Context, state: PartState) -> PartState:
        """Return the state with a batch taken in, before the directions of that batch are taken."""
        return state


def settings_of(part: Part) -> frozenset[str]:
    """Return the names of the settings that a part and its own parts take."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    inner = [settings_of(value) for value in values.values() if isinstance(value, Part)]
    # None is a part that is missing.
    own = {name for name, value in values.items() if not isinstance(value, Part | None)}
    return frozenset(own).union(*inner)


def with_part_settings(part: PartT, settings: Mapping[str, Any]) -> PartT:
    """Return the part with those of the settings that it, or a part of it, takes."""
    changed: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Part):
            changed[field.name] = with_part_settings(value, settings)
        elif field.name in settings:
            changed[field.name] = settings[field.name]
    return replace(part, **changed)
