"""Stackelberg TD(λ): a body that learns by λ-returns, under a head that LSTD(λ) solves.

Features x(s) = [φ_W(s), ψ(s), 1]: learned, frozen random, constant. The body W learns together with
a head of its own, by Adam on λ-returns (`fitted`). At the end the head is the best response

    θ* = (A + ε·E[x²]·I)⁻¹b,  A = E[z(x − γx')ᵀ],  b = E[zr]

over all features together. At λ = 1, on-policy, θ* minimises mean (G − θᵀx)², and the direction of
the body at θ* is the gradient of Φ(W) = min_θ mean (G − θᵀx)² (Danskin), the reduced objective of
arXiv 2605.15530 for regression on returns. For λ < 1 it is the version for the fixed point: no
objective is descended.

Why the head is solved: a round of refitting to λ-returns contracts an error of the level by
γ(1−λ)/(1−γλ) only, which is 0.91 at γ = 0.99 and λ = 0.9. Why random features next to the learned
ones: A is well supported before the body has learned anything, and the body adds what they lack.
"""

from collections.abc import Sequence

import torch

from neural_tdc.baselines.candidates import (
    DECAYS,
    RIDGES,
    CandidateGroup,
    Folds,
    least_squares_group,
)
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.fitted import network_block
from neural_tdc.types import Parameters


def fitted_group(
    networks: Parameters, indices: Sequence[int], decay: float, updates: int
) -> CandidateGroup:
    """Return the candidate that takes fitted networks with their own heads, one a fold."""
    found = [network_block(networks, index) for index in indices]
    head = torch.stack([torch.cat([head, torch.zeros_like(head[:1])]) for _, head in found])
    return CandidateGroup(
        "fitted",
        [{"lambda": decay, "updates": updates}],
        [[block] for block, _ in found],
        head[:, None],
    )


def stackelberg_group(
    networks: Parameters,
    indices: Sequence[int],
    body_decay: float,
    folds: Folds,
    random: Block,
    decays: Sequence[float] = DECAYS,
    ridges: Sequence[float] = RIDGES,
    trace_limits: Sequence[float] = (float("inf"),),
) -> CandidateGroup:
    """Solve the heads over the networks' features, random ones and a constant, for every fold.

    networks, indices: as many fitted networks as folds, each learned from that fold's parts
    """
    blocks = [[network_block(networks, index)[0], random] for index in indices]
    return least_squares_group(
        "stackelberg-td", folds, blocks, decays, ridges, trace_limits, body_lambda=body_decay
    )
