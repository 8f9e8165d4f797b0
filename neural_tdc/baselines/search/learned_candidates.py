"""All candidates for the best value function of a log, learned and not yet evaluated."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import CandidateGroup, Folds, held_out_group_values
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.linear_value import LinearValue, in_raw_units
from neural_tdc.baselines.log_preparation import (
    ValueUnits,
    in_units,
    parts_of,
    value_units,
)
from neural_tdc.baselines.search.families import CandidateProgress, candidate_groups
from neural_tdc.baselines.value_range import ValueRange, value_range
from neural_tdc.byte_rows import observation_units
from neural_tdc.metrics.stream_values import StreamValues
from neural_tdc.types import Transition


class LearnedCandidates(NamedTuple):
    """Candidates of several families, each learned on every fold.

    groups:       candidates that share features
    parts:        of the log, each held out by one fold; observations and rewards in units
    units:        of the values
    shift, scale: [input] what raw observations have subtracted and are divided by
    limits:       of the values that the rewards allow, in the user's unit
    seconds:      of learning, by family
    """

    groups: list[CandidateGroup]
    parts: list[Transition]
    units: ValueUnits
    shift: Float[Tensor, " input"]
    scale: Float[Tensor, " input"]
    limits: ValueRange
    seconds: dict[str, float]

    @property
    def folds(self) -> Folds:
        """Return the parts, and which of them each fold learned from: all but its own."""
        every = range(len(self.parts))
        return Folds(self.parts, [[part for part in every if part != fold] for fold in every])

    @property
    def limits_in_units(self) -> ValueRange:
        """Return the limits of the values that candidates learn."""
        level, scale = self.units
        return ValueRange(*((bound - level) / scale for bound in self.limits))

    @property
    def names(self) -> list[tuple[str, dict[str, Any]]]:
        """Return family and settings of every candidate."""
        return [(group.family, each) for group in self.groups for each in group.settings]


def learn_candidates(
    stream: Transition,
    folds: int,
    seed: int,
    width: int,
    updates: int,
    budget: float | None = None,
    on_progress: CandidateProgress | None = None,
    workers: int = 1,
) -> LearnedCandidates:
    """Learn all candidates from an ordered stream in raw units; see `best_value`."""
    begin = started = time.monotonic()
    shift, scale = observation_units(stream.observation)
    units = value_units(stream)
    parts = parts_of(in_units(stream, units, shift, scale), folds)
    rest = [[part for part in range(folds) if part != fold] for fold in range(folds)]
    deadline = None if budget is None else begin + budget
    groups: list[CandidateGroup] = []
    seconds: dict[str, float] = {}
    cut = Folds(parts, rest, workers)
    for group in candidate_groups(cut, seed, width, updates, deadline, on_progress):
        groups.append(group)
        now = time.monotonic()
        seconds[group.family] = seconds.get(group.family, 0.0) + now - started
        started = now
    return LearnedCandidates(groups, parts, units, shift, scale, value_range(stream), seconds)


def held_out_values(candidates: LearnedCandidates) -> StreamValues:
    """Return what every candidate says of parts that it did not see, within limits."""
    return held_out_group_values(candidates.groups, candidates.parts, candidates.limits_in_units)


def weighted_value(
    candidates: LearnedCandidates, weights: Float[Tensor, " candidate"]
) -> LinearValue:
    """Return the weighted mean of candidates and of their folds, in the user's units and limits.

    A block that several candidates share appears once.
    """
    folds = range(len(candidates.parts))
    value = weighted_value_in_units(candidates.groups, weights, folds)
    raw = in_raw_units(value, candidates.units, candidates.shift, candidates.scale)
    return raw._replace(limits=candidates.limits)


def weighted_value_in_units(
    groups: Sequence[CandidateGroup],
    weights: Float[Tensor, " candidate"],
    folds: Sequence[int],
) -> LinearValue:
    """Return `weighted_value` of some folds, in the units of the parts and without limits."""
    blocks: dict[int, Block] = {}
    heads: dict[int, Tensor] = {}
    constant = weights.new_zeros(1)
    start = 0
    for group in groups:
        count = group.head.shape[1]
        share = weights[start : start + count]
        start += count
        if not bool(share.any()):
            continue
        # A candidate without weight may have a head that is not finite.
        used = share > 0
        head = torch.einsum("c,fcd->fd", share[used], group.head[:, used]) / len(folds)
        for fold in folds:
            place = 0
            for block in group.blocks[fold]:
                width = len(block.layers[-1].bias)
                piece = head[fold, place : place + width]
                place += width
                blocks[id(block)] = block
                heads[id(block)] = heads.get(id(block), 0) + piece
            constant = constant + head[fold, -1:]
    return LinearValue([*blocks.values()], torch.cat([*heads.values(), constant]))
