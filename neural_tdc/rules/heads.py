"""The second table: how a head learns.

Every row gives what is *added* to θ after multiplication by its step size, as a mean over the
batch: a weight of φ and one of φ' for each transition. The auxiliary vector that a head keeps is a
part of it; its row is in `neural_tdc.rules.auxiliaries`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from neural_tdc.rules.auxiliaries import (
    AuxiliaryRow,
    BehaviourAuxiliary,
    CovarianceAuxiliary,
    RegularisedAuxiliary,
)
from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts, RowWeights
from neural_tdc.rules.emphatic import FollowOn
from neural_tdc.rules.parts import Part, PartState
from neural_tdc.rules.projection_features import ProjectionAuxiliary
from neural_tdc.rules.weights import ClippedRatio, ImportanceRatio


@dataclass(frozen=True)
class HeadRow(Part):
    """How a head learns.

    name:          as in `body+head`
    best_response: whether its direction is the whole way to an assignment
    traced:        whether the row is defined for eligibility traces on given features
    segmented:     whether it is defined for λ over segments of a stream
    differs_by_ratio: whether it is TD where all ratios are 1
    weight:        how a transition is weighed
    auxiliary:     the auxiliary vector that it keeps
    """

    name: ClassVar[str]
    best_response: ClassVar[bool] = False
    traced: ClassVar[bool] = True
    segmented: ClassVar[bool] = True
    differs_by_ratio: ClassVar[bool] = False
    weight: ImportanceRatio = field(default_factory=ImportanceRatio)
    auxiliary: AuxiliaryRow | None = None

    def step_size(self, size: Any) -> Any:
        """Return the step size that the head takes where `size` is given."""
        return size

    def direction(self, s: BatchTerms, inner: InnerProducts | None, state: PartState) -> Tensor:
        """Return what is subtracted from θ; inner: of the head's auxiliary vector, if it has one.

        [feature], a mean over the batch
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TdHead(HeadRow):
    """TD (Sutton 1988): ρδφ.

    ridge: λ of the ridge λ/2·‖θ‖² on the head
    """

    name: ClassVar[str] = "td"
    ridge: float = 0.0

    def weights(self, s: BatchTerms, inner: InnerProducts | None) -> RowWeights:
        """Return what is added to θ, before the ridge."""
        return RowWeights(error=True)

    def direction(self, s: BatchTerms, inner: InnerProducts | None, state: PartState) -> Tensor:
        """Return λθ minus what is added to θ, [d]; see `HeadRow.direction`."""
        return self.ridge * s.head - s.added(self.weights(s, inner), s.feature)


@dataclass(frozen=True)
class VTraceHead(TdHead):
    """V-trace (Espeholt et al. 2018): min(1, ρ)δφ."""

    name: ClassVar[str] = "vtrace"
    traced: ClassVar[bool] = False
    differs_by_ratio: ClassVar[bool] = True
    weight: ImportanceRatio = field(default_factory=ClippedRatio)


@dataclass(frozen=True)
class EmphaticHead(TdHead):
    """Emphatic TD (Sutton, Mahmood & White 2016): F_tρδφ."""

    name: ClassVar[str] = "etd"
    traced: ClassVar[bool] = False
    segmented: ClassVar[bool] = False
    weight: ImportanceRatio = field(default_factory=FollowOn)


@dataclass(frozen=True)
class ResidualHead(TdHead):
    """Residual gradient (Baird 1995): ρδ(φ − γ_tφ'). From single samples it minimises RMSTDE."""

    name: ClassVar[str] = "residual"
    traced: ClassVar[bool] = False

    def weights(self, s: BatchTerms, inner: InnerProducts | None) -> RowWeights:
        """Return the weights of m(δ)(φ − γφ')."""
        return _along_difference(s, s.weighted(s.td_error))


@dataclass(frozen=True)
class Gtd2Head(TdHead):
    """GTD2 (Sutton et al. 2009): ρ(φ − γ_tφ')(φᵀω)."""

    name: ClassVar[str] = "gtd2"
    auxiliary: AuxiliaryRow | None = field(default_factory=CovarianceAuxiliary)

    def weights(self, s: BatchTerms, inner: InnerProducts | None) -> RowWeights:
        """Return the weights of m(u)(φ − γφ')."""
        assert inner is not None
        return _along_difference(s, inner.weighted)


@dataclass(frozen=True)
class GeneralizedHead(Gtd2Head):
    """GTD2's row with ω_ψ on a frozen ψ (Patterson, White & White 2022): ρ(φ − γ_tφ')(ψᵀω_ψ)."""

    name: ClassVar[str] = "generalized"
    traced: ClassVar[bool] = False
    auxiliary: AuxiliaryRow | None = field(default_factory=ProjectionAuxiliary)


@dataclass(frozen=True)
class TdrcHead(TdHead):
    """TDRC (Ghiassian et al. 2020): ρ(δφ − γ_tφ'(φᵀω)), with κ in the auxiliary vector's row."""

    name: ClassVar[str] = "tdrc"
    auxiliary: AuxiliaryRow | None = field(default_factory=RegularisedAuxiliary)

    def weights(self, s: BatchTerms, inner: InnerProducts | None) -> RowWeights:
        """Return the weights of ρδφ − γm(u)φ'."""
        assert inner is not None
        return RowWeights(True, s.carried(inner), -s.discount * s.settled(inner))


@dataclass(frozen=True)
class TdcHead(TdrcHead):
    """TDC (Sutton et al. 2009): ρ(δφ − γ_tφ'(φᵀω))."""

    name: ClassVar[str] = "tdc"
    auxiliary: CovarianceAuxiliary = field(default_factory=CovarianceAuxiliary)

    def direction(self, s: BatchTerms, inner: InnerProducts | None, state: PartState) -> Tensor:
        """Return TDRC's direction plus εω, [d]: the gradient with C + εI in place of C.

        TDRC itself leaves εω out.
        """
        assert inner is not None
        return super().direction(s, inner, state) + self.auxiliary.epsilon * inner.omega


@dataclass(frozen=True)
class HtdHead(TdHead):
    """HTD (Hackman 2012, White & White 2016): ρδφ + (ρ−1)(φ − γ_tφ')(φᵀω)."""

    name: ClassVar[str] = "htd"
    differs_by_ratio: ClassVar[bool] = True
    auxiliary: AuxiliaryRow | None = field(default_factory=BehaviourAuxiliary)

    def weights(self, s: BatchTerms, inner: InnerProducts | None) -> RowWeights:
        """Return the weights of ρδφ + (m(u) − u)(φ − γφ')."""
        assert inner is not None
        return _along_difference(s, s.surplus(inner))._replace(error=True)


def _along_difference(s: BatchTerms, weight: Tensor) -> RowWeights:
    """Return the weights of weight·(φ − γφ')."""
    return RowWeights(False, weight, -s.discount * weight)
