"""The best value function that a log tells of: many candidates, one choice, without a truth.

Candidates of several families (`neural_tdc.baselines`) learn from all parts of the log but one and
are evaluated on the part that they did not see, each part in turn. On-policy the choice by returns
is the mean of all candidates that the held-out errors cannot tell from the best one. Off-policy it
is half that mean, by bootstrapped returns, and half the weighted mean nearest to these returns. The
result is half this choice and half the mean of the candidates that the noise of the data moves
least (`baselines.simulated_errors`). Each candidate is the mean of what its folds learned, so every
transition serves learning and choosing.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.baselines.candidates import held_out_value_blocks
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.baselines.log_preparation import episode_numbers, joined, ordered_stream
from neural_tdc.baselines.search.families import CandidateProgress, no_candidate_progress
from neural_tdc.baselines.search.learned_candidates import (
    LearnedCandidates,
    held_out_values,
    learn_candidates,
    weighted_value,
)
from neural_tdc.baselines.search.noise import little_moved
from neural_tdc.baselines.search.resampled_heads import start_values
from neural_tdc.byte_rows import rows_at_once
from neural_tdc.devices import checked_device
from neural_tdc.metrics.paired_errors import (
    EpisodeSums,
    PairedDifference,
    episode_sums,
    equally_good,
    paired_error_difference,
)
from neural_tdc.metrics.selection import (
    WIDENED,
    SelectionReturns,
    bootstrapped_returns,
    complete_returns,
    effective_sample_size,
)
from neural_tdc.types import Transition

# Parts of a log, each held out once.
FOLDS = 4
# A candidate with less weight in the result is left out.
_LEAST_WEIGHT = 1e-3
_NO_NETWORKS = "the budget left no time for candidates whose networks learn"


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
    criterion:      `returns`, or `bootstrapped returns`, see `metrics.selection.selection_returns`
    ranking:        one entry per family, the best first
    effective_sample_size: of the ratios, the number of transitions on-policy
    seconds:        by phase
    notes:          lines worth printing
    start_values:   [resample] the mean value over the starts of the data: of the log itself, then
        of every resample
    resampled:      what the resamples drew, in words; "" without resamples
    """

    value: LinearValue
    observation_shape: tuple[int, ...]
    chosen: list[tuple[str, dict[str, Any]]]
    criterion: str
    ranking: list[FamilyResult]
    effective_sample_size: float
    seconds: dict[str, float]
    notes: tuple[str, ...]
    start_values: Float[Tensor, " resample"]
    resampled: str


def best_value(
    transitions: Transition,
    *,
    seed: int = 0,
    folds: int = FOLDS,
    width: int = 256,
    updates: int = 8_000,
    budget: float | None = None,
    resamples: int = 1,
    on_progress: CandidateProgress | None = None,
    workers: int = 1,
) -> BestValue:
    """Find the best value function of the policy that a log allows to find.

    transitions: [time, …] one stream in its order, or [stream, time, …]; `first` marks where
        episodes start
    folds:       parts of the log, each held out once
    width:       random features of a candidate that learns none
    updates:     of the networks that learn; 0 leaves them out
    budget:      seconds; the number of updates is lowered to what is measured to fit. The result
        then depends on the machine's speed, not on the seed alone
    resamples:   of the log, for an interval of the mean value over its starts; 1 is the log itself.
        Each solves the heads of the chosen candidates anew, see `baselines.resampled_heads`
    on_progress: is called with (what is being done, how much of it is done, of how much)
    workers:     threads that sum up parts of the log, with one thread of torch each: set torch to
        one thread with it. The number changes no bit

    Raises ValueError in one line for transitions that cannot be, and for a log of too few episodes
    or independent blocks to hold out any.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2")
    if width < 1:
        raise ValueError(f"width is {width}; it must be at least 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    if updates < 0:
        raise ValueError(f"updates is {updates}; it must be at least 0")
    if budget is not None and not budget > 0:
        raise ValueError(f"budget is {budget:g} seconds; it must be above 0")
    checked_device(transitions.reward.device)
    stream = ordered_stream(transitions)
    candidates = learn_candidates(stream, folds, seed, width, updates, budget, on_progress, workers)
    seconds = {**candidates.seconds}
    spent = () if not updates or "fitted" in seconds else (_NO_NETWORKS,)
    started = time.monotonic()
    report = on_progress or no_candidate_progress
    report("choice", 0, 1)
    choice = choose_candidates(candidates, seed)
    seconds["choose"] = time.monotonic() - started
    started = time.monotonic()
    report("values at the starts", 0, resamples)
    at_starts, drawn = start_values(
        candidates.groups,
        choice.weights,
        candidates.folds,
        stream,
        resamples,
        seed,
        candidates.limits_in_units,
    )
    report("values at the starts", resamples, resamples)
    if resamples > 1:
        seconds["resample"] = time.monotonic() - started
    return BestValue(
        weighted_value(candidates, choice.weights),
        tuple(transitions.observation.shape[transitions.reward.dim() :]),
        [name for name, weight in zip(candidates.names, choice.weights.tolist()) if weight > 0],
        choice.criterion,
        choice.ranking,
        effective_sample_size(stream.ratio),
        seconds,
        (*choice.notes, *spent),
        candidates.units.level + candidates.units.scale * at_starts,
        drawn,
    )


class CandidateChoice(NamedTuple):
    """Weights of all candidates, the criterion, the ranking of families and notes."""

    weights: Float[Tensor, " candidate"]
    criterion: str
    ranking: list[FamilyResult]
    notes: tuple[str, ...]


def choose_candidates(candidates: LearnedCandidates, seed: int) -> CandidateChoice:
    """Evaluate all candidates on the parts that they did not see.

    seed: of simulated noise, see `baselines.simulated_errors`
    """
    names, whole = candidates.names, joined(candidates.parts)
    finite = torch.ones(len(names), dtype=torch.bool, device=whole.reward.device)
    returns = complete_returns(whole)
    if returns is None:
        values = held_out_values(candidates)
        finite = values.finite
        returns = bootstrapped_returns(values.of(finite), whole)
        blocks: Iterable[Tensor] = values.value.split(rows_at_once(values.value))
    else:
        seen = [part.observation for part in candidates.parts]
        blocks = held_out_value_blocks(candidates.groups, seen, candidates.limits_in_units)
    error = _squared_errors(blocks, returns, episode_numbers(whole))
    finite &= error.total.isfinite().all(0)
    weights = equally_good(error).double()
    weights = weights / weights.sum()
    if returns.weights is not None:
        # The flat mean of what cannot be told from the best changes too little off-policy, and the
        # fitted weights change too much.
        fitted = torch.where(returns.weights < _LEAST_WEIGHT, 0, returns.weights)
        weights[finite] += fitted / fitted.sum()
    weights = weights / weights.sum()
    weights = (weights + little_moved(candidates, weights, seed)) / 2
    score = torch.where(finite, error.mean, torch.inf)
    best: dict[str, int] = {}
    for index in score.argsort()[: int(finite.sum())].tolist():
        best.setdefault(names[index][0], index)
    least, square = error.of(int(score.argmin())), candidates.units.scale**2
    ranking = []
    for row in best.values():
        difference = paired_error_difference(error.of(row), least)
        if returns.weights is not None:
            difference = difference.widened(WIDENED)
        in_unit = PairedDifference(*(square * bound for bound in difference))
        alone = torch.zeros_like(score)
        alone[row] = 1
        value_of_row = weighted_value(candidates, alone)
        ranking.append(FamilyResult(*names[row], value_of_row, square * float(score[row]), in_unit))
    return CandidateChoice(weights, returns.criterion, ranking, (returns.note,))


def _squared_errors(
    blocks: Iterable[Tensor], returns: SelectionReturns, episode: Int[Tensor, " time"]
) -> EpisodeSums:
    """Sum the squared errors of all candidates over episodes; blocks: of their values, in order."""

    def errors() -> Iterator[Tensor]:
        begin = 0
        for block in blocks:
            rows = slice(begin, begin := begin + len(block))
            usable = returns.usable[rows]
            yield (returns.value[rows][usable, None] - block[usable]).square()

    return episode_sums(errors(), episode[returns.usable])
