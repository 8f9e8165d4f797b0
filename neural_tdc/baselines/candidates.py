"""Candidates for the best value function: several settings of one family, learned on several folds.

A log is cut into parts. Fold k learns from all parts but part k, so that part k can evaluate it. A
candidate is one setting, for every fold: its values on part k are those that fold k learned.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.feature_blocks import Block, block_features
from neural_tdc.baselines.lambda_returns import apart_rows, both_states_in_blocks
from neural_tdc.baselines.least_squares import (
    LeastSquaresStatistics,
    added,
    least_squares_heads,
    summed_statistics,
)
from neural_tdc.baselines.value_range import UNLIMITED, ValueRange, within_limits
from neural_tdc.byte_rows import ByteRows, as_numbers, row_blocks
from neural_tdc.metrics.stream_values import StreamValues
from neural_tdc.types import Transition

# λ and ridges that LSTD(λ) is solved for; the accumulation for a λ serves all ridges.
DECAYS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class Folds(NamedTuple):
    """The parts of a log and what each fold learns from.

    parts:    consecutive parts of an ordered stream; each begins with `first` 1
    learned:  for every fold the numbers of the parts that it learns from
    workers:  parts that are summed up at the same time, each in a thread of its own
    """

    parts: list[Transition]
    learned: list[list[int]]
    workers: int = 1

    @property
    def kept(self) -> Sequence[int]:
        """Return two folds whose linear systems are kept: all would need much memory."""
        count = len(self.learned)
        return range(0, count, max(1, count // 2))[:2]


class Solved(NamedTuple):
    """The systems of LSTD(λ) that gave the heads of one fold.

    kinds:      λ and the limit of the traces' ratios of every matrix
    statistics: with the kinds in place of λ
    ridges:     of every kind; candidates are in the order kind, ridge
    """

    kinds: tuple[tuple[float, float], ...]
    statistics: LeastSquaresStatistics
    ridges: tuple[float, ...]


class CandidateGroup(NamedTuple):
    """Candidates that share the features of a fold.

    family:    the name of the method
    settings:  of every candidate, such as λ and the ridge
    blocks:    [fold] the blocks of features
    head:      [fold, candidate, feature] θ, the constant's last
    solved:    by fold, what the heads of `Folds.kept` were solved from; empty if they were learned
    """

    family: str
    settings: list[dict[str, Any]]
    blocks: list[list[Block]]
    head: Float[Tensor, "fold candidate feature"]
    solved: Mapping[int, Solved] = MappingProxyType({})


def group_values(
    group: CandidateGroup, fold: int, observation: Float[Tensor, "batch input"]
) -> Float[Tensor, "batch candidate"]:
    """Return the values that all candidates of a group learned on one fold."""
    return block_features(group.blocks[fold], observation) @ group.head[fold].T


def held_out_group_values(
    groups: Sequence[CandidateGroup],
    parts: Sequence[Transition],
    limits: ValueRange = UNLIMITED,
) -> StreamValues:
    """Return the values of all candidates at s and at s', on part k those that fold k learned.

    limits: of the values

    Values of pictures that are kept as bytes are stored in float32: there they are the largest
    tensors next to the pictures.
    """
    # The last transition of a part is apart, so that no part has the values of the next one's fold.
    apart = [apart_rows(part).nonzero().flatten() for part in parts]
    following = [part.next_observation[rows] for part, rows in zip(parts, apart)]
    begin, places = 0, []
    for part, rows in zip(parts, apart):
        places.append(begin + rows)
        begin += len(part.reward)
    value, apart_value = (
        _stored(held_out_value_blocks(groups, seen, limits), seen)
        for seen in ([part.observation for part in parts], following)
    )
    return StreamValues(value, torch.cat(places), apart_value)


def _stored(
    blocks: Iterable[Float[Tensor, "block candidate"]], observations: Sequence[Tensor]
) -> Float[Tensor, "time candidate"]:
    """Return blocks as one tensor, without a second copy of it."""
    time, begin = sum(map(len, observations)), 0
    kept = torch.float32 if isinstance(observations[0], ByteRows) else torch.float64
    found: Tensor | None = None
    for block in blocks:
        if found is None:
            found = block.new_empty(time, block.shape[1], dtype=kept)
        found[begin : begin + len(block)] = block
        begin += len(block)
    assert found is not None
    return found


def held_out_value_blocks(
    groups: Sequence[CandidateGroup],
    observations: Sequence[Float[Tensor, "_ input"]],
    limits: ValueRange = UNLIMITED,
) -> Iterator[Float[Tensor, "block candidate"]]:
    """Go through the values that fold k learned, within limits, at observations of part k.

    observations: of every part; some rows at a time
    """
    for fold, observation in enumerate(observations):
        for rows in row_blocks(observation):
            seen = as_numbers(observation[rows])
            found = torch.cat([group_values(group, fold, seen) for group in groups], 1)
            yield within_limits(found, limits)


def least_squares_group(
    family: str,
    folds: Folds,
    blocks: Sequence[list[Block]],
    decays: Sequence[float] = DECAYS,
    ridges: Sequence[float] = RIDGES,
    trace_limits: Sequence[float] = (float("inf"),),
    **settings: Any,
) -> CandidateGroup:
    """Solve LSTD(λ) on each fold's features for every λ, ridge and limit of the traces' ratios.

    blocks:   [fold] the features; where all folds have the same ones they are evaluated once
    settings: what else distinguishes the group, to be reported with each candidate
    """
    shared = all(each is blocks[0] for each in blocks)

    def statistics(place: tuple[int, int]) -> list[LeastSquaresStatistics]:
        fold, part = place
        transitions = folds.parts[part]
        features = both_states_in_blocks(partial(block_features, blocks[fold]), transitions)
        return summed_statistics(features, transitions, decays, trace_limits)

    places = [
        [(0 if shared else fold, part) for part in learned]
        for fold, learned in enumerate(folds.learned)
    ]
    wanted = list(dict.fromkeys(place for each in places for place in each))
    found = dict(zip(wanted, _in_threads(folds.workers, statistics, wanted)))
    kinds = tuple((decay, limit) for limit in trace_limits for decay in decays)
    heads, solved = [], {}
    for fold, each_fold in enumerate(places):
        of_limits = [added(parts) for parts in zip(*(found[place] for place in each_fold))]
        together = of_limits[0]._replace(
            matrix=torch.cat([each.matrix for each in of_limits]),
            vector=torch.cat([each.vector for each in of_limits]),
        )
        heads.append(least_squares_heads(together, ridges).flatten(0, 1))
        if fold in folds.kept:
            solved[fold] = Solved(kinds, together, tuple(ridges))
    each = [
        {"lambda": decay, "ridge": ridge, **({"trace_limit": limit} if limit < torch.inf else {})}
        for decay, limit in kinds
        for ridge in ridges
    ]
    return CandidateGroup(
        family,
        [{**settings, **one} for one in each],
        list(blocks),
        torch.stack(heads),
        solved,
    )


def _in_threads(workers: int, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Return the function's values of all items; every worker computes on one thread of torch."""
    if workers == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool:
        return list(pool.map(function, items))
