"""The best value function that a log tells of: many candidates, one choice, without a truth.

Candidates of several families (`neural_tdc.baselines`) learn from all parts of the log but one and
are judged on the part that they did not see, each part in turn. The result is the mean of all
candidates that the held-out errors cannot tell from the best one, each the mean of what its folds
learned. So every transition serves learning and choosing.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import CandidateGroup, Folds, group_values
from neural_tdc.baselines.families import CandidateProgress, candidate_groups
from neural_tdc.baselines.feature_blocks import Block, block_features, on_raw_inputs
from neural_tdc.baselines.lambda_returns import at_both_states
from neural_tdc.baselines.log_preparation import (
    ValueUnits,
    episode_numbers,
    in_units,
    joined,
    observation_units,
    ordered_stream,
    parts_of,
    value_units,
)
from neural_tdc.metrics.selection import (
    PairedDifference,
    effective_sample_size,
    equally_good,
    judging_returns,
    paired_error_difference,
)
from neural_tdc.types import Transition

# Parts of a log, each held out once.
FOLDS = 4
_NO_NETWORKS = "the budget left no time for candidates whose networks learn"


class LinearValue(NamedTuple):
    """A value function θᵀx(s).

    blocks: of the features x of raw observations
    head:   θ; the constant's entry is the last
    """

    blocks: list[Block]
    head: Float[Tensor, " feature"]

    def __call__(self, observation: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Return V of raw observations, in float64."""
        return block_features(self.blocks, observation.double().flatten(1)) @ self.head


class FamilyResult(NamedTuple):
    """The best candidate of one family and how it compares with the best of all.

    value:       its values, the mean over the folds

    score:       mean squared error against held-out returns, in the user's unit squared
    difference:  of the score to the best candidate's, paired, with an interval over episodes
    """

    family: str
    settings: dict[str, Any]
    value: LinearValue
    score: float
    difference: PairedDifference


class BestValue(NamedTuple):
    """A value function θᵀx(s), and how it was chosen.

    value:          V of raw observations
    observation_shape: of one observation
    chosen:         the candidates whose mean is taken: family and settings
    criterion:      `returns`, or `bootstrapped returns`, see `metrics.selection.judging_returns`
    ranking:        one entry per family, the best first
    effective_sample_size: of the ratios, the number of transitions on-policy
    seconds:        by phase
    notes:          lines worth printing
    """

    value: LinearValue
    observation_shape: tuple[int, ...]
    chosen: list[tuple[str, dict[str, Any]]]
    criterion: str
    ranking: list[FamilyResult]
    effective_sample_size: float
    seconds: dict[str, float]
    notes: tuple[str, ...]


def best_value(
    transitions: Transition,
    *,
    seed: int = 0,
    folds: int = FOLDS,
    width: int = 256,
    updates: int = 8_000,
    budget: float | None = None,
    on_progress: CandidateProgress | None = None,
) -> BestValue:
    """Find the best value function of the policy that a log allows to find.

    transitions: [time, …] one stream in its order, or [stream, time, …]; `first` marks where
        episodes start
    folds:       parts of the log, each held out once
    width:       random features of a candidate that learns none
    updates:     of the networks that learn; 0 leaves them out
    budget:      seconds; the number of updates is lowered to what is measured to fit. The result
        then depends on the machine's speed, not on the seed alone
    on_progress: hears (what is being done, how much of it is done, of how much)

    Raises ValueError in one line for transitions that cannot be, and for a log of too few episodes
    or independent blocks to hold out any.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2")
    if width < 1:
        raise ValueError(f"width is {width}; it must be at least 1")
    if updates < 0:
        raise ValueError(f"updates is {updates}; it must be at least 0")
    if budget is not None and not budget > 0:
        raise ValueError(f"budget is {budget:g} seconds; it must be above 0")
    begin = time.monotonic()
    stream = ordered_stream(transitions)
    shift, scale = observation_units(stream.observation)
    units = value_units(stream)
    parts = parts_of(in_units(stream, units, shift, scale), folds)
    rest = [[part for part in range(folds) if part != fold] for fold in range(folds)]
    deadline = None if budget is None else begin + budget
    groups: list[CandidateGroup] = []
    seconds: dict[str, float] = {}
    started = time.monotonic()
    for group in candidate_groups(Folds(parts, rest), seed, width, updates, deadline, on_progress):
        groups.append(group)
        now = time.monotonic()
        seconds[group.family] = seconds.get(group.family, 0.0) + now - started
        started = now

    spent = () if not updates or "fitted" in seconds else (_NO_NETWORKS,)

    def valued(weights: Tensor) -> LinearValue:
        blocks, head = _mean_value(groups, weights)
        head = torch.cat([units.scale * head[:-1], units.scale * head[-1:] + units.level])
        return LinearValue(on_raw_inputs(blocks, shift, scale), head)

    choice = _chosen(groups, parts, units, valued)
    seconds["choose"] = time.monotonic() - started
    names = [(group.family, each) for group in groups for each in group.settings]
    return BestValue(
        valued(choice.weights),
        tuple(transitions.observation.shape[transitions.reward.dim() :]),
        [name for name, weight in zip(names, choice.weights.tolist()) if weight > 0],
        choice.criterion,
        choice.ranking,
        effective_sample_size(stream.ratio),
        seconds,
        (*choice.notes, *spent),
    )


class _Choice(NamedTuple):
    """Weights of all candidates, the criterion, the ranking of families and notes."""

    weights: Float[Tensor, " candidate"]
    criterion: str
    ranking: list[FamilyResult]
    notes: tuple[str, ...]


def _chosen(
    groups: list[CandidateGroup],
    parts: list[Transition],
    units: ValueUnits,
    valued: Callable[[Tensor], LinearValue],
) -> _Choice:
    """Judge all candidates on the parts that they did not see."""
    names = [(group.family, each) for group in groups for each in group.settings]
    whole = joined(parts)
    found = []
    for fold, part in enumerate(parts):
        each = [at_both_states(partial(group_values, group, fold), part) for group in groups]
        found.append([torch.cat(columns, 1) for columns in zip(*each)])
    value, next_value = (torch.cat(rows) for rows in zip(*found))
    finite = (value.isfinite() & next_value.isfinite()).all(0)
    judges = judging_returns(value[:, finite], next_value[:, finite], whole)
    error = (judges.value[judges.usable, None] - value[judges.usable]).square()
    episode = episode_numbers(whole)[judges.usable]
    good = equally_good(error, episode)
    score = torch.where(finite, error.mean(0), torch.inf)
    best: dict[str, int] = {}
    for index in score.argsort()[: int(finite.sum())].tolist():
        best.setdefault(names[index][0], index)
    least, square = error[:, int(score.argmin())], units.scale**2
    ranking = []
    for row in best.values():
        difference = paired_error_difference(error[:, row], least, episode)
        in_unit = PairedDifference(*(square * bound for bound in difference))
        alone = torch.zeros_like(score)
        alone[row] = 1
        value_of_row = valued(alone)
        ranking.append(FamilyResult(*names[row], value_of_row, square * float(score[row]), in_unit))
    return _Choice(good.double() / good.sum(), judges.criterion, ranking, (judges.note,))


def _mean_value(
    groups: list[CandidateGroup], weights: Float[Tensor, " candidate"]
) -> tuple[list[Block], Float[Tensor, " feature"]]:
    """Return the blocks and the head of the weighted mean of candidates and of their folds.

    A block that several candidates share appears once.
    """
    blocks: dict[int, Block] = {}
    heads: dict[int, Tensor] = {}
    constant = weights.new_zeros(1)
    start = 0
    for group in groups:
        folds, count, _ = group.head.shape
        share = weights[start : start + count]
        start += count
        if not bool(share.any()):
            continue
        # A candidate without weight may have a head that is not finite.
        used = share > 0
        head = torch.einsum("c,fcd->fd", share[used], group.head[:, used]) / folds
        for fold in range(folds):
            place = 0
            for block in group.blocks[fold]:
                width = len(block.layers[-1].bias)
                piece = head[fold, place : place + width]
                place += width
                blocks[id(block)] = block
                heads[id(block)] = heads.get(id(block), 0) + piece
            constant = constant + head[fold, -1:]
    return list(blocks.values()), torch.cat([*heads.values(), constant])
