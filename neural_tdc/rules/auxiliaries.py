"""The auxiliary vectors that a head keeps, or that a body needs if its head has none.

A vector belongs to a space of features, φ or a wider ψ, and has an update of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts, RowWeights
from neural_tdc.rules.parts import Part, PartState
from neural_tdc.types import FeatureMap, Parameters, Transition


@dataclass(frozen=True)
class AuxiliaryRow(Part):
    """An auxiliary vector on φ: its space and what is added to it.

    name:      its name in `Parameters.auxiliary`
    behaviour: whether its row reads m(u) without ratios
    """

    name: ClassVar[str]
    behaviour: ClassVar[bool] = False

    @property
    def shrinkage(self) -> float:
        """Return what multiplies −ω in its row."""
        return 0.0

    @property
    def regulariser(self) -> float | None:
        """Return ε of the ω* = (C + εI)⁻¹E[ρδφ] that it estimates, None if it does not."""
        return None

    def start(self, parameters: Parameters, observation: Tensor) -> Tensor:
        """Return the vector [size] before the first update: 0. observation: […], one of them."""
        return parameters.head.new_zeros(len(parameters.head))

    def space(
        self, features: FeatureMap, batch: Transition, feature: Tensor, state: PartState
    ) -> Tensor:
        """Return the features of the vector's space, [batch, size]; feature: φ."""
        return feature

    def feature_part(self, omega: Tensor, size: int) -> Tensor | None:
        """Return the entries [size] of ω that belong to φ; None if there are none."""
        return omega

    def weights(self, s: BatchTerms, inner: InnerProducts) -> RowWeights:
        """Return what is added to the vector, before the shrinkage."""
        raise NotImplementedError

    def direction(self, s: BatchTerms, inner: InnerProducts, space: Tensor) -> Tensor:
        """Return what is subtracted from the vector after multiplication by its step size.

        space: [batch, size], the features that the vector weighs
        """
        return self.shrinkage * inner.omega - s.added(self.weights(s, inner), space)


@dataclass(frozen=True)
class CovarianceAuxiliary(AuxiliaryRow):
    """TDC's auxiliary vector: (ρδ − φᵀω)φ, whose fixed point is ω* = C⁻¹E[ρδφ].

    epsilon: ε of C + εI; the row gains −εω
    """

    name: ClassVar[str] = "tdc"
    epsilon: float = 0.0

    @property
    def shrinkage(self) -> float:
        """Return ε."""
        return self.epsilon

    @property
    def regulariser(self) -> float | None:
        """Return ε."""
        return self.shrinkage

    def weights(self, s: BatchTerms, inner: InnerProducts) -> RowWeights:
        """Return the weights of (ρδ − u)φ."""
        return RowWeights(True, -inner.value)


@dataclass(frozen=True)
class RegularisedAuxiliary(CovarianceAuxiliary):
    """TDRC's auxiliary vector (Ghiassian et al. 2020): (ρδ − φᵀω)φ − κω."""

    name: ClassVar[str] = "tdrc"
    kappa: float = 1.0

    @property
    def shrinkage(self) -> float:
        """Return ε + κ."""
        return self.epsilon + self.kappa


@dataclass(frozen=True)
class BehaviourAuxiliary(AuxiliaryRow):
    """HTD's auxiliary vector: ρδφ − (φ − γ_tφ')(φᵀω), on the behaviour policy's own A."""

    name: ClassVar[str] = "htd"
    behaviour: ClassVar[bool] = True

    def weights(self, s: BatchTerms, inner: InnerProducts) -> RowWeights:
        """Return the weights of ρδφ − u(φ − γφ')."""
        weight = s.behaviour(inner)
        return RowWeights(True, -weight, s.discount * weight)
