"""The best value function that a log tells of: many candidates, one choice, without a truth.

Candidates of several families (`neural_tdc.baselines`) learn from all parts of the log but one and
are judged on the part that they did not see, each part in turn. The result is the mean of all
candidates that the held-out errors cannot tell from the best one, each the mean of what its folds
learned. So every transition serves learning and choosing.
"""

import time
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import CandidateGroup, Folds, group_values
from neural_tdc.baselines.families import OnProgress, candidate_groups
from neural_tdc.baselines.feature_blocks import Block, block_features, on_raw_inputs
from neural_tdc.baselines.lambda_returns import at_both_states, discounted_returns
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
    paired_difference,
    tournament_differences,
    tournament_scores,
)
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# The share of complete returns from which on they alone judge; else the tournament does, and so
# many candidates' mean is taken, and every so many-th one takes part in the intervals' tournament.
_ENOUGH_RETURNS, _TOURNAMENT_BEST, _TOURNAMENT_STRIDE = 0.1, 10, 8


class FamilyResult(NamedTuple):
    """The best candidate of one family and how it compares with the best of all.

    score:       mean squared error against held-out returns, in the user's unit squared, or the
        tournament's score, in the user's unit
    difference:  of the score to the best candidate's, paired, with an interval over episodes
    """

    family: str
    settings: dict[str, Any]
    score: float
    difference: PairedDifference


class BestValue(NamedTuple):
    """A value function θᵀx(s), and how it was chosen.

    blocks, head:   of the features of raw observations; the constant's entry of θ is the last
    observation_shape: of one observation
    chosen:         the candidates whose mean is taken: family and settings
    criterion:      what they were judged by, `returns` or `tournament`
    ranking:        one entry per family, the best first
    effective_sample_size: of the ratios, the number of transitions on-policy
    seconds:        by phase
    notes:          lines worth printing
    """

    blocks: list[Block]
    head: Float[Tensor, " feature"]
    observation_shape: tuple[int, ...]
    chosen: list[tuple[str, dict[str, Any]]]
    criterion: str
    ranking: list[FamilyResult]
    effective_sample_size: float
    seconds: dict[str, float]
    notes: tuple[str, ...]

    def value(self, observation: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Return V of raw observations, in float64."""
        return block_features(self.blocks, observation.double().flatten(1)) @ self.head


def best_value(
    transitions: Transition,
    *,
    seed: int = 0,
    folds: int = 4,
    width: int = 256,
    updates: int = 8_000,
    budget: float | None = None,
    on_progress: OnProgress | None = None,
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
    groups, seconds = [], {}
    started = time.monotonic()
    for group in candidate_groups(Folds(parts, rest), seed, width, updates, deadline, on_progress):
        groups.append(group)
        now = time.monotonic()
        seconds[group.family] = seconds.get(group.family, 0.0) + now - started
        started = now
    choice = _chosen(groups, parts, units, seed)
    blocks, head = _mean_value(groups, choice.weights)
    head = torch.cat([units.scale * head[:-1], units.scale * head[-1:] + units.level])
    seconds["choose"] = time.monotonic() - started
    names = [(group.family, each) for group in groups for each in group.settings]
    return BestValue(
        on_raw_inputs(blocks, shift, scale),
        head,
        tuple(transitions.observation.shape[transitions.reward.dim() :]),
        [name for name, weight in zip(names, choice.weights.tolist()) if weight > 0],
        choice.criterion,
        choice.ranking,
        effective_sample_size(stream.ratio),
        seconds,
        choice.notes,
    )


class _Choice(NamedTuple):
    """Weights of all candidates, the criterion, the ranking of families and notes."""

    weights: Float[Tensor, " candidate"]
    criterion: str
    ranking: list[FamilyResult]
    notes: tuple[str, ...]


def _chosen(
    groups: list[CandidateGroup], parts: list[Transition], units: ValueUnits, seed: int
) -> _Choice:
    """Judge all candidates on the parts that they did not see."""
    names = [(group.family, each) for group in groups for each in group.settings]
    whole = joined(parts)
    found = []
    for fold, part in enumerate(parts):
        each = [at_both_states(partial(group_values, group, fold), part) for group in groups]
        found.append([torch.cat(columns, 1) for columns in zip(*each)])
    value, next_value = (torch.cat(rows) for rows in zip(*found))
    usable = (value.isfinite() & next_value.isfinite()).all(0)
    returns, complete = discounted_returns(whole)
    on_policy = bool((whole.ratio == 1).all())
    share = float(complete.double().mean())
    episode = episode_numbers(whole)
    if on_policy and share >= _ENOUGH_RETURNS:
        error = (returns[complete, None] - value[complete]).square()
        score = error.mean(0)
        good = equally_good(error, episode[complete])
        notes = (f"{1 - share:.1%} of the held-out returns are incomplete and left out",)
    else:
        score = torch.full_like(value[0], torch.inf)
        score[usable] = tournament_scores(value[:, usable], next_value[:, usable], whole)
        good = torch.zeros_like(usable)
        good[score.argsort()[: min(_TOURNAMENT_BEST, int(usable.sum()))]] = True
        why = "the data are off-policy" if not on_policy else "hardly any return is complete"
        notes = (f"{why}: candidates are judged by a tournament, not by returns",)
    score = torch.where(usable, score, torch.inf)
    best: dict[str, int] = {}
    for index in score.argsort().tolist():
        if bool(usable[index]):
            best.setdefault(names[index][0], index)
    rows = list(best.values())
    if on_policy and share >= _ENOUGH_RETURNS:
        criterion, unit = "returns", units.scale**2
        columns = [error[:, row] for row in rows]
        differences = [paired_difference(each, columns[0], episode[complete]) for each in columns]
    else:
        criterion, unit = "tournament", units.scale
        differences = tournament_differences(
            value[:, rows],
            next_value[:, rows],
            value[:, usable][:, ::_TOURNAMENT_STRIDE],
            whole,
            episode,
            generator(seed, "tournament"),
        )
    ranking = [
        FamilyResult(
            *names[row],
            unit * float(score[row]),
            PairedDifference(*(unit * bound for bound in difference)),
        )
        for row, difference in zip(rows, differences)
    ]
    return _Choice(good.double() / good.sum(), criterion, ranking, notes)


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
