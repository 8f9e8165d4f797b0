"""How far a rule looks along the stream: one step, or with λ several, forwards or backwards.

The forward view is in `neural_tdc.rules.lambda_returns`, the backward view in
`neural_tdc.rules.traces`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms
from neural_tdc.rules.parts import Part, PartState
from neural_tdc.types import Transition


@dataclass(frozen=True)
class OneStepView(Part):
    """λ = 0, and the base of the other views.

    ordered: whether the view follows one stream in its order
    decay:   λ
    """

    ordered: ClassVar[bool] = False

    @property
    def decay(self) -> float:
        """Return λ."""
        return 0.0

    def terms(self, s: BatchTerms, batch: Transition, state: PartState) -> BatchTerms:
        """Return the terms of λ from those of λ = 0."""
        return s

    def credit(self, feature: Tensor, batch: Transition, state: PartState) -> Tensor:
        """Return what a transition's TD error is credited to, [batch, feature]: ρφ.

        feature: φ
        """
        return batch.ratio[:, None] * feature


def checked_decay(decay: float) -> float:
    """Return λ; ValueError for a number outside [0, 1]."""
    if not 0 <= decay <= 1:
        raise ValueError(f"trace_decay {decay:g} is not allowed: give a number from 0 to 1")
    return decay
