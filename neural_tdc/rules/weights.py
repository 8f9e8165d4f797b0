"""How a transition is weighed: by its importance ratio, whole or clipped.

The follow-on weight of emphatic TD, which keeps a state, is in `neural_tdc.rules.emphatic`.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from neural_tdc.rules.parts import Part, PartState
from neural_tdc.types import Transition


@dataclass(frozen=True)
class ImportanceRatio(Part):
    """The weight ρ = π(a|s) / b(a|s), and the base of the other weights.

    reweighs:             whether the weight is not ρ: head and body then learn from a sample that
                          is weighed alike, which makes sense for TD's own body only
    ordered:              whether it follows one stream in its order
    defined_at_truncation: whether a stream may be cut by time limits
    """

    reweighs: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    defined_at_truncation: ClassVar[bool] = True

    def ratio(self, batch: Transition, state: PartState) -> Float[Tensor, " batch"]:
        """Return the weight that replaces ρ in the tables."""
        return batch.ratio


@dataclass(frozen=True)
class ClippedRatio(ImportanceRatio):
    """The weight min(1, ρ) of V-trace (Espeholt et al. 2018)."""

    reweighs: ClassVar[bool] = True

    def ratio(self, batch: Transition, state: PartState) -> Float[Tensor, " batch"]:
        """Return min(1, ρ)."""
        return batch.ratio.clamp(max=1)
