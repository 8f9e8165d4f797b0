"""From a user's transitions to what baselines learn from: checked, standardised, cut in parts."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.baselines.lambda_returns import continued, discounted_returns
from neural_tdc.byte_rows import ByteRows, byte_rows, in_given_units
from neural_tdc.types import Transition, mapped

# Shares of the returns below which their spread is not trusted as the scale.
_FEW_RETURNS = 0.05


class ValueUnits(NamedTuple):
    """What turns learned values U into values in the user's unit: V = level + scale·U.

    level: the best constant value
    scale: the standard deviation of discounted returns, or E|r|/(1 − γ)
    """

    level: float
    scale: float


def ordered_stream(transitions: Transition) -> Transition:
    """Return one ordered stream in float64 with vectors as observations, complete and checked.

    transitions: [time, …] or [stream, time, …]; several streams are put behind one another

    Observations of bytes stay bytes until they are used, see `neural_tdc.byte_rows`.

    Raises ValueError in one line for what cannot be.
    """
    reward = transitions.reward
    if reward.dim() not in (1, 2) or not reward.numel():
        raise ValueError(
            f"reward has shape {tuple(reward.shape)}; it must be [time] or [stream, time]"
        )
    first = torch.zeros(reward.shape) if transitions.first is None else transitions.first.clone()
    first[..., 0] = 1
    stream = transitions._replace(first=first.to(reward.device))
    for name, leaf in stream._asdict().items():
        if leaf.shape[: reward.dim()] != reward.shape:
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}; it must begin with the dimensions of "
                f"reward, {tuple(reward.shape)}"
            )
        whole = leaf.dtype == torch.uint8 or isinstance(leaf, ByteRows)
        if not whole and not bool(leaf.isfinite().all()):
            place = (~leaf.isfinite()).nonzero()[0].tolist()
            raise ValueError(f"{name} is not finite at {place}")
    if stream.observation.shape != stream.next_observation.shape:
        raise ValueError("observation and next_observation differ in shape")
    if bool(((stream.discount < 0) | (stream.discount > 1)).any()):
        raise ValueError("discount must lie in [0, 1]")
    if bool((stream.ratio < 0).any()) or not bool(stream.ratio.any()):
        raise ValueError("ratio must not be negative, nor 0 everywhere")
    if reward.dim() == 2:
        stream = mapped(stream, lambda leaf: leaf.flatten(0, 1))
    stream = mapped(stream, lambda leaf: byte_rows(leaf).double())
    return stream._replace(
        observation=stream.observation.reshape(len(stream.reward), -1),
        next_observation=stream.next_observation.reshape(len(stream.reward), -1),
    )


def value_units(stream: Transition) -> ValueUnits:
    """Return level and scale of the values that a stream tells of."""
    returns = discounted_returns(stream)
    scale = 0.0
    if float(returns.complete.double().mean()) > _FEW_RETURNS:
        scale = float(returns.value[returns.complete].std(unbiased=False))
    gamma = float(stream.discount.max())
    # Returns that are all alike, up to rounding, have no scale.
    if not scale > 1e-9 * float(returns.value.abs().max()):
        size = float(stream.reward.abs().mean())
        scale = size / (1 - gamma) if gamma < 1 else size
    level = best_constant(stream)
    return ValueUnits(level, scale if scale > 0 else 1.0)


def in_units(
    stream: Transition,
    units: ValueUnits,
    shift: Float[Tensor, " input"],
    scale: Float[Tensor, " input"],
) -> Transition:
    """Return the stream whose values are (V − level)/scale, its observations standardised."""
    paid = stream.reward - units.level * (1 - stream.discount)
    return stream._replace(
        observation=in_given_units(stream.observation, shift, scale),
        next_observation=in_given_units(stream.next_observation, shift, scale),
        reward=paid / units.scale,
    )


def best_constant(transitions: Transition) -> float:
    """Return the constant c that solves E[ρ(r + γ_t c − c)] = 0, LSTD(0) on a constant feature.

    On-policy with episodes that terminate it is the mean of all returns, up to the order in which
    they count. 0 where nothing ends and γ = 1.
    """
    ratio = transitions.ratio.double()
    lost = float((ratio * (1 - transitions.discount.double())).sum())
    return float((ratio * transitions.reward.double()).sum()) / lost if lost > 0 else 0.0


def episode_numbers(transitions: Transition) -> Int[Tensor, " time"]:
    """Number the episodes of a stream, or blocks of it where an episode is long.

    A block is four times 1/(1 − γ) long: returns further apart have little in common.
    """
    time = len(transitions.reward)
    starts = torch.ones(time, dtype=torch.bool, device=transitions.reward.device)
    starts[1:] = continued(transitions)[:-1] == 0
    gamma = float(transitions.discount.max())
    longest = time if gamma >= 1 else max(1, math.ceil(4 / (1 - gamma)))
    place = torch.arange(time, device=starts.device)
    begin = torch.where(starts, place, 0).cummax(0).values
    starts |= (place - begin) % longest == 0
    return starts.long().cumsum(0) - 1


def parts_of(stream: Transition, folds: int) -> list[Transition]:
    """Cut a stream into consecutive parts of about one length, between episodes where it can be.

    Long episodes are cut in blocks, see `episode_numbers`. Raises ValueError where there are too
    few episodes or blocks for parts to say anything of each other.
    """
    number = episode_numbers(stream)
    blocks = int(number[-1]) + 1
    if blocks < 2 * folds:
        raise ValueError(
            f"the stream holds {blocks} episode{'s' * (blocks != 1)} or independent "
            f"block{'s' * (blocks != 1)} of {len(number)} transitions; choosing on held-out data "
            f"in {folds} parts takes at least {2 * folds}"
        )
    starts = torch.cat([number.new_zeros(1), (number.diff() > 0).nonzero().flatten() + 1])
    edges = [0]
    for part in range(1, folds):
        # Leaves a block at least for every part that follows.
        allowed = starts[(starts > edges[-1])][:blocks]
        allowed = allowed[: len(allowed) - (folds - part - 1)]
        wanted = math.ceil(part * len(number) / folds)
        edges.append(int(allowed[(allowed - wanted).abs().argmin()]))
    edges.append(len(number))
    assert stream.first is not None
    first = stream.first.clone()
    first[edges[:-1]] = 1
    cut = stream._replace(first=first)
    return [_rows(cut, slice(begin, end)) for begin, end in pairwise(edges)]


def _rows(stream: Transition, rows: slice) -> Transition:
    return mapped(stream, lambda leaf: leaf[rows])


def joined(parts: Sequence[Transition]) -> Transition:
    """Put parts of a stream behind one another again."""
    return Transition(*(torch.cat(leaves) for leaves in zip(*parts)))
