"""The quantities of one batch that the tables of learning rules are written in."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from neural_tdc.types import Transition


class BatchTerms(NamedTuple):
    """One batch as the tables see it; everything but θ has the batch as its leading axis.

    feature, next_feature: φ = φ_W(s) and φ' = φ_W(s'), [batch, feature]
    head:                  θ, [feature]
    td_error:              δ = r + γ_t θᵀφ' − θᵀφ, [batch]
    ratio, discount:       ρ and γ_t, [batch]
    """

    feature: Tensor
    next_feature: Tensor
    head: Tensor
    td_error: Tensor
    ratio: Tensor
    discount: Tensor


def td_error(
    reward: Float[Tensor, " batch"],
    discount: Float[Tensor, " batch"],
    feature: Float[Tensor, "batch feature"],
    next_feature: Float[Tensor, "batch feature"],
    head: Float[Tensor, " feature"],
) -> Float[Tensor, " batch"]:
    """Return the temporal-difference error δ = r + γ_t θᵀφ' − θᵀφ."""
    return reward + discount * (next_feature @ head) - feature @ head


def batch_terms(
    batch: Transition,
    feature: Float[Tensor, "batch feature"],
    next_feature: Float[Tensor, "batch feature"],
    head: Float[Tensor, " feature"],
    ratio: Float[Tensor, " batch"],
) -> BatchTerms:
    """Gather a batch, its features and the ratio that a rule weighs it by."""
    error = td_error(batch.reward, batch.discount, feature, next_feature, head)
    return BatchTerms(feature, next_feature, head, error, ratio, batch.discount)


def weighted_mean(
    weight: Float[Tensor, " batch"], vector: Float[Tensor, "batch feature"]
) -> Float[Tensor, " feature"]:
    """Return the batch's mean of weight · vector."""
    return weight @ vector / len(weight)


def outer(
    weight: Float[Tensor, " batch"], vector: Float[Tensor, " feature"]
) -> Float[Tensor, "batch feature"]:
    """Return weight · vector for each sample of the batch."""
    return weight[:, None] * vector
