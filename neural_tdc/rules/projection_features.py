"""Frozen feature maps ψ, the space of the auxiliary vector of the `generalized` rule.

The projected Bellman error on the learner's own features is 0 at the best head for all
features. Projected on a second, wider map that does not learn, it is not 0, and its gradient
changes the body.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.rules.auxiliaries import CovarianceAuxiliary
from neural_tdc.rules.parts import Context, PartState
from neural_tdc.types import Body, FeatureMap, Parameters, Transition


@dataclass(frozen=True)
class RandomFeatures:
    """Random tanh features of the observation, drawn once a run.

    width:  number of random features
    period: updates between two copies of the body, where one is kept

    The scale of the observations gives the inputs of the features a standard deviation of about 2.
    """

    holds_features: ClassVar[bool] = False

    width: int
    period: int

    def size(self, observation: Float[Tensor, "sample *observation"], features: int) -> int:
        """Return the number of features of ψ, where φ has `features`."""
        return self.width

    def init(
        self,
        observation: Float[Tensor, "sample *observation"],
        body: Body,
        generator: torch.Generator,
    ) -> PartState:
        """Draw ψ for one run."""
        flat = observation.flatten(1)
        scale = 2 / flat.square().sum(1).mean().sqrt().clamp(min=1e-6)
        draw = torch.randn(flat.shape[1], self.width, generator=generator, dtype=torch.float64)
        turn = torch.rand(self.width, generator=generator, dtype=torch.float64) * 2 * torch.pi
        return {"weight": draw.to(flat) * scale, "shift": self.shift(turn).to(flat)}

    def shift(self, turn: Tensor) -> Tensor:
        """Return the shift of each feature's input, [size], from a uniform draw in [0, 2π)."""
        return turn / torch.pi - 1

    def basis(self, inputs: Tensor) -> Tensor:
        """Return the random features of their inputs, both [batch, size]."""
        return inputs.tanh()

    def update(self, state: PartState, body: Body) -> PartState:
        """Return the state after one more update of the body."""
        return state

    def features(
        self,
        state: PartState,
        features: FeatureMap,
        observation: Float[Tensor, "batch *observation"],
        feature: Float[Tensor, "batch feature"],
    ) -> Float[Tensor, "batch psi"]:
        """Return ψ at the observations; `feature` is the present φ there."""
        return self.basis(observation.flatten(1) @ state["weight"] + state["shift"])


@dataclass(frozen=True)
class FourierFeatures(RandomFeatures):
    """Random Fourier features of the observation, drawn once a run."""

    def shift(self, turn: Tensor) -> Tensor:
        """Return the phase, which is the draw [size] itself."""
        return turn

    def basis(self, inputs: Tensor) -> Tensor:
        """Return the cosines of the inputs, both [batch, size]."""
        return inputs.cos()


@dataclass(frozen=True)
class ObservationFeatures(RandomFeatures):
    """The observation itself: all states of a chain where it is one-hot."""

    def size(self, observation: Float[Tensor, "sample *observation"], features: int) -> int:
        """Return the number of entries of an observation."""
        return observation[0].numel()

    def init(
        self,
        observation: Float[Tensor, "sample *observation"],
        body: Body,
        generator: torch.Generator,
    ) -> PartState:
        """Draw nothing."""
        return {}

    def features(
        self,
        state: PartState,
        features: FeatureMap,
        observation: Float[Tensor, "batch *observation"],
        feature: Float[Tensor, "batch feature"],
    ) -> Float[Tensor, "batch psi"]:
        """Return the observations as vectors."""
        return observation.flatten(1)


@dataclass(frozen=True)
class PresentFeatures(RandomFeatures):
    """Random features and the present φ itself, which adds a term to the body's direction."""

    holds_features: ClassVar[bool] = True

    def size(self, observation: Float[Tensor, "sample *observation"], features: int) -> int:
        """Return the number of random features and of φ's."""
        return self.width + features

    def features(
        self,
        state: PartState,
        features: FeatureMap,
        observation: Float[Tensor, "batch *observation"],
        feature: Float[Tensor, "batch feature"],
    ) -> Float[Tensor, "batch psi"]:
        """Return the random features, then φ."""
        basis = super().features(state, features, observation, feature)
        return torch.cat([basis, feature], dim=1)


@dataclass(frozen=True)
class SnapshotFeatures(PresentFeatures):
    """Random features and φ of a copy of the body, which is renewed every so often.

    State: also `body`, the copy, and `age`, the updates since it was made.
    """

    holds_features: ClassVar[bool] = False

    def init(
        self,
        observation: Float[Tensor, "sample *observation"],
        body: Body,
        generator: torch.Generator,
    ) -> PartState:
        """Draw the random features and copy the body."""
        copy = {name: tensor.clone() for name, tensor in body.items()}
        age = observation.new_zeros(())
        return {**super().init(observation, body, generator), "body": copy, "age": age}

    def update(self, state: PartState, body: Body) -> PartState:
        """Copy the present body every `period` updates."""
        due = state["age"] >= self.period
        copy = tree_map(lambda old, new: torch.where(due, new, old), state["body"], dict(body))
        age = torch.where(due, torch.zeros_like(state["age"]), state["age"]) + 1
        return {**state, "body": copy, "age": age}

    def features(
        self,
        state: PartState,
        features: FeatureMap,
        observation: Float[Tensor, "batch *observation"],
        feature: Float[Tensor, "batch feature"],
    ) -> Float[Tensor, "batch psi"]:
        """Return the random features, then φ of the copy."""
        copied = features(state["body"], observation)
        return super().features(state, features, observation, copied)


PSI_KINDS: dict[str, type[RandomFeatures]] = {
    "random": RandomFeatures,
    "fourier": FourierFeatures,
    "observation": ObservationFeatures,
    "snapshot": SnapshotFeatures,
    "present": PresentFeatures,
}


@dataclass(frozen=True)
class ProjectionAuxiliary(CovarianceAuxiliary):
    """The auxiliary vector ω_ψ of the generalised error: (ρδ − ψᵀω_ψ)ψ.

    psi:        one of PSI_KINDS
    psi_width:  number of random features; 0 for four times the head's features
    psi_period: updates between two copies of the body in a `snapshot`
    """

    name: ClassVar[str] = "generalized"
    psi: str = "random"
    psi_width: int = 0
    psi_period: int = 1000

    def __post_init__(self) -> None:
        if self.psi not in PSI_KINDS:
            raise ValueError(f"psi {self.psi!r} is not one of {', '.join(PSI_KINDS)}")

    def projection(self, features: int) -> RandomFeatures:
        """Return ψ where φ has `features`."""
        return PSI_KINDS[self.psi](self.psi_width or 4 * features, self.psi_period)

    @property
    def regulariser(self) -> float | None:
        """Return None: ω_ψ is not a vector on φ."""
        return None

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> PartState:
        """Draw ψ; see `Part.init`."""
        projection = self.projection(len(parameters.head))
        return projection.init(observation, parameters.body, generator)

    def update(self, context: Context, state: PartState) -> PartState:
        """Renew a copy of the body that is due; see `Part.update`."""
        parameters = context.parameters
        return self.projection(len(parameters.head)).update(state, parameters.body)

    def start(self, parameters: Parameters, observation: Tensor) -> Tensor:
        """Return the vector [size] before the first update: 0."""
        features = len(parameters.head)
        size = self.projection(features).size(observation, features)
        return parameters.head.new_zeros(size)

    def space(
        self, features: FeatureMap, batch: Transition, feature: Tensor, state: PartState
    ) -> Tensor:
        """Return ψ at the batch's observations, [batch, size]; feature: φ there."""
        projection = self.projection(feature.shape[1])
        return projection.features(state, features, batch.observation, feature)

    def feature_part(self, omega: Tensor, size: int) -> Tensor | None:
        """Return the entries [size] of ω_ψ that belong to the present φ; None if there are none."""
        return omega[-size:] if self.projection(size).holds_features else None
