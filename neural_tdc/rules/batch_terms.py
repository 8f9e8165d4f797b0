"""The quantities of one batch that the tables of learning rules are written in.

Every row is written in two scalars of a transition: its weighted error ρδ, and for an inner
product u = φᵀω the weight m(u) = ρu. With λ both reach over several transitions, and the rows keep
their form: `neural_tdc.rules.lambda_returns` has the forward view, `neural_tdc.rules.traces` the
backward view. Here is λ = 0.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from neural_tdc.types import Transition


class InnerProducts(NamedTuple):
    """The inner products of a batch's features with one auxiliary vector.

    omega:        ω, [size of its space]
    feature_part: the entries of ω that belong to φ, [feature]: all of them for a vector that lives
                  on φ, none (None) for one that lives on features that do not learn
    value:        u, [batch]: φᵀω, or ψᵀω_ψ
    weighted:     m(u), [batch]
    """

    omega: Tensor
    feature_part: Tensor | None
    value: Tensor
    weighted: Tensor


class RowWeights(NamedTuple):
    """What a row of heads or auxiliary vectors adds: a sum of weighted features.

    error:        whether the weighted error is added along the features that led to it
    feature:      [batch] weights of the features (φ, or ψ) besides, None for 0
    next_feature: [batch] weights of φ', None for 0
    """

    error: bool = False
    feature: Tensor | None = None
    next_feature: Tensor | None = None


@dataclass(frozen=True)
class BatchTerms:
    """One batch as the tables see it; everything but θ has the batch as its leading axis.

    feature, next_feature: φ = φ_W(s) and φ' = φ_W(s'), [batch, feature]
    head:                  θ, [feature]
    td_error:              δ = r + γ_t θᵀφ' − θᵀφ, [batch]
    ratio, discount:       ρ and γ_t, [batch]

    The methods take leading axes before the batch as well, where `inner_products` and `added` are
    not used.
    """

    feature: Tensor
    next_feature: Tensor
    head: Tensor
    td_error: Tensor
    ratio: Tensor
    discount: Tensor

    @property
    def error(self) -> Tensor:
        """Return the weighted error ρδ, [batch]."""
        return self.ratio * self.td_error

    def weighted(self, value: Tensor) -> Tensor:
        """Return m(value) = ρ·value, [batch]."""
        return self.ratio * value

    def inner_products(
        self, space: Tensor, omega: Tensor, feature_part: Tensor | None
    ) -> InnerProducts:
        """Return the inner products of the space's features, [batch, size], with ω, [size].

        feature_part: the entries of ω that belong to φ, None if there are none
        """
        value = space @ omega
        return InnerProducts(omega, feature_part, value, self.weighted(value))

    def carried(self, inner: InnerProducts) -> Tensor | None:
        """Return what m(u) has of earlier transitions, [batch]; None for nothing."""
        return None

    def settled(self, inner: InnerProducts) -> Tensor:
        """Return the part of m(u) that is corrected at φ' here, [batch]."""
        return inner.weighted

    def behaviour(self, inner: InnerProducts) -> Tensor:
        """Return m(u) without ratios, [batch]."""
        return inner.value

    def surplus(self, inner: InnerProducts) -> Tensor:
        """Return m(u) less the same without ratios, [batch]."""
        return (self.ratio - 1) * inner.value

    def added(self, row: RowWeights, space: Tensor) -> Tensor:
        """Return the batch's mean of what a row adds, [size of the space]; space: [batch, size]."""
        weight = plus(self.error, row.feature) if row.error else row.feature
        assert weight is not None
        return with_next(weighted_mean(weight, space), row, self.next_feature)


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


def with_next(total: Tensor, row: RowWeights, next_feature: Tensor) -> Tensor:
    """Return the total [d] plus the mean of a row's weights times φ', [batch, d], if it has any."""
    if row.next_feature is None:
        return total
    return total + weighted_mean(row.next_feature, next_feature)


def outer(
    weight: Float[Tensor, "*batch"], vector: Float[Tensor, "*#batch feature"]
) -> Float[Tensor, "*batch feature"]:
    """Return weight · vector for each sample of the batch."""
    return weight[..., None] * vector


def plus(weight: Tensor, other: Tensor | None) -> Tensor:
    """Return the sum of two weights [batch], of which the second may be missing."""
    return weight if other is None else weight + other
