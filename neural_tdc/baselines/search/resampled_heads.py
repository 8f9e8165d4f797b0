"""The values of chosen candidates at the starts, on resampled logs: what another log might give.

A resample draws the units of a log (episodes or blocks) with replacement. The features stay as they
were learned, and every head takes the step that LSTD(λ) on these features takes to first order:

    θ_i = θ + (A + εI)⁻¹(g_i − g),  g_i = mean over resample i of z_tδ_t,  δ_t at θ

with A, z of `least_squares` and g that of the log itself. A fitted network's head takes the step
of its own λ. Each unit's sum of z_tδ_t is computed once, so a resample costs a weighted sum of them
and one back-substitution.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import CandidateGroup, Folds
from neural_tdc.baselines.feature_blocks import block_features
from neural_tdc.baselines.lambda_returns import block_traces, both_states_in_blocks
from neural_tdc.baselines.value_range import UNLIMITED, ValueRange
from neural_tdc.byte_rows import row_blocks
from neural_tdc.learning.resampling import merged_units, resampling_counts, resampling_units
from neural_tdc.linear_systems import linear_solution
from neural_tdc.types import Transition

# The ridge for heads that were not solved, in the units of the others'.
_RIDGE = 1e-3
# More units than this are drawn in groups of neighbours, which bounds the memory.
_MOST_UNITS = 200


def start_values(
    groups: Sequence[CandidateGroup],
    weights: Float[Tensor, " candidate"],
    folds: Folds,
    stream: Transition,
    resamples: int,
    seed: int,
    limits: ValueRange = UNLIMITED,
) -> tuple[Float[Tensor, " resample"], str]:
    """Return the mean value over the starts of every resample, and what was drawn, in words.

    weights: of all candidates of all groups, in a mean
    stream:  all parts of `folds` in a row, with `first` 1 where an episode starts and nowhere else
    resamples: resample 0 is the log itself; of 1 nothing is drawn
    limits:  of the value of a start

    Raises ValueError for a log that cannot be resampled, see `resampling_units`.
    """
    assert stream.first is not None
    starts = stream.first > 0
    number, drawn = torch.zeros_like(stream.first, dtype=torch.int64), ""
    counts = weights.new_ones(1, 1)
    if resamples > 1:
        units = resampling_units(stream)
        drawn, number = str(units), merged_units(units.number, _MOST_UNITS)
        counts = resampling_counts(number, resamples, seed)
    share = counts[:, number[starts]]
    # A resample of blocks may hold no start at all: it then has those of the log.
    share = torch.where(share.any(1, keepdim=True), share, torch.ones_like(share))
    share = share / share.sum(1, keepdim=True)
    observation = torch.cat([part.observation for part in folds.parts])[starts]
    units_of_parts = number.split([len(part.reward) for part in folds.parts])
    value, begin = weights.new_zeros(len(observation), len(counts)), 0
    for group in groups:
        of_group = weights[begin : begin + group.head.shape[1]]
        begin += len(of_group)
        used = of_group.nonzero().flatten().tolist()
        if not used:
            continue
        heads = group.head[None, :, used]
        if resamples > 1:
            heads = heads + _displacements(group, used, folds, units_of_parts, counts)
        head = torch.einsum("c,rkcd->krd", of_group[used], heads) / len(folds.learned)
        for fold, blocks in enumerate(group.blocks):
            for rows in row_blocks(observation):
                value[rows] += block_features(blocks, observation[rows]) @ head[fold].T
    return (share.T * value.clamp(*limits)).sum(0), drawn


def _displacements(
    group: CandidateGroup,
    used: Sequence[int],
    folds: Folds,
    units: Sequence[Tensor],
    counts: Float[Tensor, "resample unit"],
) -> Float[Tensor, "resample fold candidate feature"]:
    """Return by how much every resample moves the heads of some candidates of a group.

    units: of the transitions of every part
    """
    kinds: dict[tuple[float, float], list[int]] = {}
    for place, index in enumerate(used):
        settings: dict[str, Any] = group.settings[index]
        kind = (settings["lambda"], settings.get("trace_limit", torch.inf))
        kinds.setdefault(kind, []).append(place)
    moved = counts.new_zeros(len(counts), len(folds.learned), len(used), group.head.shape[2])
    for (decay, limit), places in kinds.items():
        of_kind = [used[place] for place in places]
        ridges = [group.settings[index].get("ridge", _RIDGE) for index in of_kind]
        heads = group.head[:, of_kind]
        moved[:, :, places] = _of_one_trace(
            group, heads, ridges, decay, limit, folds, units, counts
        )
    return moved


def _of_one_trace(
    group: CandidateGroup,
    heads: Float[Tensor, "fold candidate feature"],
    ridges: Sequence[float],
    decay: float,
    trace_limit: float,
    folds: Folds,
    units: Sequence[Tensor],
    counts: Float[Tensor, "resample unit"],
) -> Float[Tensor, "resample fold candidate feature"]:
    """Return the displacements of the candidates whose traces have one λ and one limit."""
    count, candidates, width = heads.shape
    matrix = heads.new_zeros(count, width, width)
    sums = heads.new_zeros(len(counts), count, candidates, width)
    totals = heads.new_zeros(len(counts), count)
    square, number = heads.new_zeros(count), heads.new_zeros(count)
    for part, (transitions, unit) in enumerate(zip(folds.parts, units)):
        # Folds that share their features share what is computed from them.
        sharing: dict[int, list[int]] = {}
        for fold, learned in enumerate(folds.learned):
            if part in learned:
                sharing.setdefault(id(group.blocks[fold]), []).append(fold)
        for some in sharing.values():
            features = partial(block_features, group.blocks[some[0]])
            traces = block_traces(transitions, decay, trace_limit)
            for rows, feature, following in both_states_in_blocks(features, transitions):
                trace = traces(rows, feature)
                difference = feature - transitions.discount[rows, None] * following
                present, sizes = unit[rows].unique_consecutive(return_counts=True)
                of_rows, product = counts[:, present], trace.T @ difference
                squares = feature[:, :-1].square().sum() / max(1, width - 1)
                for fold in some:
                    td_error = transitions.reward[rows, None] - difference @ heads[fold].T
                    pieces = zip(trace.split(sizes.tolist()), td_error.split(sizes.tolist()))
                    per_unit = torch.stack([error.T @ z for z, error in pieces])
                    sums[:, fold] += torch.einsum("ru,ucd->rcd", of_rows, per_unit)
                    totals[:, fold] += of_rows @ sizes.double()
                    matrix[fold] += product
                    square[fold] += squares
                    number[fold] += len(trace)
    mean = sums / totals[:, :, None, None]
    wanted = (mean - mean[:1]).permute(1, 2, 3, 0)
    penalised = torch.ones_like(heads[0, 0])
    penalised[-1] = 0
    scale = (square / number)[:, None] * torch.tensor(ridges).to(heads)
    ridge = torch.diag_embed(scale[..., None] * penalised)
    step = linear_solution((matrix / number[:, None, None])[:, None] + ridge, wanted)
    return step.permute(3, 0, 1, 2)
