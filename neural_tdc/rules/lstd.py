"""Least-squares TD (Bradtke & Barto 1996): the head as a best response, an assignment.

The statistics A = E[ρφ(φ − γ_tφ')ᵀ] and b₀ = E[ρrφ] are means over a window that forgets, since
the features drift. A window of one batch is LSTD on that batch with the present features. With λ
an eligibility trace stands for ρφ.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.linear_systems import linear_solution
from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts
from neural_tdc.rules.heads import HeadRow
from neural_tdc.rules.parts import Context, PartState
from neural_tdc.types import Parameters


@dataclass(frozen=True)
class LstdHead(HeadRow):
    """The head that LSTD solves for, at every update.

    lstd_window:  transitions that the statistics keep; 1 for the present batch alone
    lstd_epsilon: ε of (A + εI)⁻¹

    Its direction is the whole way to the solution: its step size is 1, and no optimiser rescales
    it. State: `matrix` A, `vector` b₀, and `batches`, how many were taken in.
    """

    name: ClassVar[str] = "lstd"
    best_response: ClassVar[bool] = True
    lstd_window: int = 1000
    lstd_epsilon: float = 1e-3

    def step_size(self, size: Any) -> Any:
        """Return 1: the head is assigned, so no step size applies."""
        return torch.ones_like(size) if isinstance(size, Tensor) else 1.0

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> PartState:
        """Return the statistics of no transitions; see `Part.init`."""
        head = parameters.head
        return {
            "matrix": head.new_zeros(len(head), len(head)),
            "vector": head.new_zeros(len(head)),
            "batches": head.new_zeros(()),
        }

    def update(self, context: Context, state: PartState) -> PartState:
        """Take in one batch with the present features; see `Part.update`."""
        features, (body, *_), batch, credit = context
        feature = features(body, batch.observation)
        next_feature = features(body, batch.next_observation)
        difference = feature - batch.discount[:, None] * next_feature
        return accumulated(state, credit(feature), difference, batch.reward, self.lstd_window)

    def direction(self, s: BatchTerms, inner: InnerProducts | None, state: PartState) -> Tensor:
        """Return θ − θ_LSTD, [d]; subtracted at step size 1, it assigns θ_LSTD."""
        return s.head - lstd_solution(state, self.lstd_epsilon)


def accumulated(
    statistics: PartState,
    credit: Float[Tensor, "batch feature"],
    difference: Float[Tensor, "batch feature"],
    reward: Float[Tensor, " batch"],
    window: int,
) -> PartState:
    """Return the statistics with one batch more; an old one decays as if a window were kept.

    credit:     ρφ, or the eligibility trace z
    difference: φ − γφ'
    window:     in transitions; until it is full the statistics are plain means of all that was seen
    """
    batches = statistics["batches"] + 1
    rate = (1 / batches).clamp(min=min(1.0, len(reward) / window))
    weighted = credit / len(reward)
    return {
        "matrix": torch.lerp(statistics["matrix"], weighted.T @ difference, rate),
        "vector": torch.lerp(statistics["vector"], weighted.T @ reward, rate),
        "batches": batches,
    }


def lstd_solution(statistics: PartState, epsilon: float) -> Float[Tensor, " feature"]:
    """Return θ_LSTD = (A + εI)⁻¹b₀; not finite where the matrix is singular."""
    matrix = statistics["matrix"]
    regularised = matrix + epsilon * torch.eye(
        len(matrix), dtype=matrix.dtype, device=matrix.device
    )
    return linear_solution(regularised, statistics["vector"][:, None])[:, 0]
