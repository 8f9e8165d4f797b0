"""LSTD(λ) on given features, for several λ and ridges at once (Boyan 2002; ratios: Yu 2010).

    A = E[z(x − γ_tx')ᵀ],  b = E[zr],  θ = (A + ε·E[x²]·I)⁻¹b

with z the eligibility trace of `lambda_returns` and E[x²] the mean over transitions and features,
so that ε has no unit. A constant feature is not penalised: it carries the level of the values, and
at γ near 1 a small ridge on it would already halve that level.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.lambda_returns import block_traces
from neural_tdc.linear_systems import linear_solution
from neural_tdc.types import Transition


class LeastSquaresStatistics(NamedTuple):
    """Sums over transitions; those of several parts of a log are added up.

    matrix:  [decay, feature, feature] Σ z(x − γx')ᵀ for every λ
    vector:  [decay, feature] Σ zr
    square:  [] Σ of the mean of x² over the features, the constant left out
    number:  [] of transitions
    """

    matrix: Float[Tensor, "decay feature feature"]
    vector: Float[Tensor, "decay feature"]
    square: Float[Tensor, ""]
    number: Float[Tensor, ""]


def least_squares_statistics(
    feature: Float[Tensor, "time feature"],
    next_feature: Float[Tensor, "time feature"],
    transitions: Transition,
    decays: Sequence[float],
    trace_limit: float = math.inf,
) -> LeastSquaresStatistics:
    """Sum A and b over an ordered stream for every λ; the last feature is the constant 1.

    Computed in the precision of the features and returned in float64.
    """
    everything = [(slice(0, len(feature)), feature, next_feature)]
    return summed_statistics(everything, transitions, decays, [trace_limit])[0]


def summed_statistics(
    blocks: Iterable[tuple[slice, Tensor, Tensor]],
    transitions: Transition,
    decays: Sequence[float],
    trace_limits: Sequence[float],
) -> list[LeastSquaresStatistics]:
    """Sum A and b over an ordered stream whose features come block by block, for every limit.

    blocks: rows of the stream, in their order, with the features of s and s', [block, feature]

    As `least_squares_statistics`: between blocks only the traces' last rows are kept.
    """
    kinds = [block_traces(transitions, decay, limit) for limit in trace_limits for decay in decays]
    sums: list[tuple[Tensor, Tensor]] = []
    square, number = torch.zeros(()), 0
    for rows, feature, next_feature in blocks:
        difference = feature - transitions.discount[rows].to(feature)[:, None] * next_feature
        reward = transitions.reward[rows].to(feature)
        if not sums:
            width = feature.shape[1]
            sums = [(feature.new_zeros(width, width), feature.new_zeros(width)) for _ in kinds]
            square = feature.new_zeros(())
        for traces, (matrix, vector) in zip(kinds, sums):
            trace = traces(rows, feature)
            matrix.addmm_(trace.T, difference)
            vector.addmv_(trace.T, reward)
        if feature.shape[1] > 1:
            square += feature[:, :-1].square().mean(1).sum()
        number += len(feature)
    matrices, vectors = (torch.stack(leaves).double() for leaves in zip(*sums))
    count = torch.tensor(float(number), dtype=torch.float64, device=square.device)
    each = zip(matrices.split(len(decays)), vectors.split(len(decays)))
    return [LeastSquaresStatistics(*both, square.double(), count) for both in each]


def added(parts: Sequence[LeastSquaresStatistics]) -> LeastSquaresStatistics:
    """Return the statistics of several parts of a log together."""
    return LeastSquaresStatistics(*(torch.stack(leaves).sum(0) for leaves in zip(*parts)))


def least_squares_heads(
    statistics: LeastSquaresStatistics, ridges: Sequence[float]
) -> Float[Tensor, "decay ridge feature"]:
    """Solve for θ = (A + ε·E[x²]·I)⁻¹b at every λ and ε; not finite where a matrix is singular."""
    return heads_for_vectors(statistics, statistics.vector[..., None], ridges)[..., 0]


def heads_for_vectors(
    statistics: LeastSquaresStatistics,
    vectors: Float[Tensor, "decay feature item"],
    ridges: Sequence[float],
) -> Float[Tensor, "decay ridge feature item"]:
    """Solve as `least_squares_heads` does, for several vectors in place of the data's Σ zr."""
    matrix, vector = statistics.matrix / statistics.number, vectors / statistics.number
    penalised = torch.ones_like(vector[0, :, 0])
    penalised[-1] = 0
    amounts = torch.tensor(ridges, dtype=matrix.dtype, device=matrix.device)
    diagonal = amounts[:, None] * penalised * statistics.square / statistics.number
    regularised = matrix[:, None] + torch.diag_embed(diagonal)
    right = vector[:, None].expand(-1, len(ridges), -1, -1)
    return linear_solution(regularised, right)
