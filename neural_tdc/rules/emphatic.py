"""Emphatic TD's follow-on weight (Sutton, Mahmood & White 2016).

F_t = γ_{t−1} ρ_{t−1} F_{t−1} + 1, starting at 1 with every episode; it multiplies ρ. It needs an
ordered stream of batch 1, and is not defined where a time limit cuts an episode.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.rules.parts import Context, PartState
from neural_tdc.rules.weights import ImportanceRatio
from neural_tdc.types import Parameters, Transition


@dataclass(frozen=True)
class FollowOn(ImportanceRatio):
    """The weight F_tρ_t.

    State: `emphasis` F_t [1] and `carried` γ_tρ_tF_t [1], which the next transition inherits.
    """

    reweighs: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    defined_at_truncation: ClassVar[bool] = False

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> PartState:
        """Return the state of a stream that has not begun; see `Part.init`."""
        return {"emphasis": parameters.head.new_ones(1), "carried": parameters.head.new_zeros(1)}

    def update(self, context: Context, state: PartState) -> PartState:
        """Take in one transition; ValueError for a batch of more."""
        return emphasis_after(state, context.batch)

    def ratio(self, batch: Transition, state: PartState) -> Float[Tensor, " batch"]:
        """Return F_tρ_t."""
        return state["emphasis"] * batch.ratio


def emphasis_after(state: PartState, batch: Transition) -> PartState:
    """Return the state after one transition; ValueError for a batch of more."""
    if len(batch.reward) != 1:
        raise ValueError(
            f"emphatic TD needs an ordered stream and batch 1, not batch {len(batch.reward)}"
        )
    first = torch.zeros_like(batch.reward) if batch.first is None else batch.first
    emphasis = 1 + (1 - first) * state["carried"]
    return {"emphasis": emphasis, "carried": batch.discount * batch.ratio * emphasis}
