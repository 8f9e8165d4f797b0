"""λ-returns, traces and discounted returns of an ordered stream: linear recurrences over time.

A transition is *continued* by the next one unless the stream is cut between them: where an episode
starts, and behind the last transition. Nothing is carried over a cut. A termination has the
discount 0 and so carries nothing either.

With δ_t = r_t + γ_t V(s'_t) − V(s_t), γ_t the transition's own discount and ρ_t its ratio:

    δ^λ_t = ρ_t (δ_t + γ_t λ δ^λ_{t+1})           backwards, 0 behind a cut
    z_t   = ρ_t (γ_{t−1} λ z_{t−1} + x_t)         forwards, 0 before the start and after a cut
    G^λ_t = V(s_t) + δ^λ_t                        the λ-return with control variates

and Σ_t δ^λ_t x_t = Σ_t δ_t z_t. Sources: Sutton & Barto 2018, chapter 12, (12.22) and (12.25).
"""

import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural_tdc.byte_rows import differing, evaluated_in_blocks, row_blocks
from neural_tdc.types import Transition, mapped

# What a return may leave out: γ to the power of the transitions seen is below it.
NEGLIGIBLE = 0.01


def linear_recurrence(
    factor: Float[Tensor, "time *factor"],
    value: Float[Tensor, "time *item"],
    start: Float[Tensor, "*item"] | None = None,
) -> Float[Tensor, "time *item"]:
    """Solve y_t = factor_t · y_{t−1} + value_t with y_{−1} = start, 0 if not given.

    factor: may have fewer trailing axes than `value`, or axes of length 1

    The time axis is cut into about √time blocks that are solved side by side and then joined, so
    that 2√time operations do what a loop over time would need `time` of.
    """
    time = len(value)
    factor = factor.reshape(*factor.shape, *([1] * (value.dim() - factor.dim())))
    width = max(1, math.isqrt(time))
    blocks = -(-time // width)
    padding = blocks * width - time
    rows = torch.cat([value, value.new_zeros(padding, *value.shape[1:])])
    rows = rows.reshape(blocks, width, *value.shape[1:])
    factors = torch.cat([factor, factor.new_zeros(padding, *factor.shape[1:])])
    factors = factors.reshape(blocks, width, *factor.shape[1:])
    # reach: the product of the factors from the block's beginning.
    reach = factors.clone()
    for column in range(1, width):
        rows[:, column].addcmul_(factors[:, column], rows[:, column - 1])
        reach[:, column] *= reach[:, column - 1]
    if start is not None:
        rows[0] += reach[0] * start
    for block in range(1, blocks):
        rows[block].addcmul_(reach[block], rows[block - 1, -1])
    return rows.reshape(blocks * width, *value.shape[1:])[:time]


def continued(transitions: Transition) -> Float[Tensor, " time"]:
    """Return 1 for every transition of a stream that the next one continues, else 0."""
    follows = torch.ones_like(transitions.reward)
    follows[-1] = 0
    if transitions.first is not None:
        follows[:-1] = 1 - transitions.first[1:].to(follows)
    return follows


def stream_traces(
    feature: Float[Tensor, "time feature"],
    transitions: Transition,
    decay: float,
    trace_limit: float = math.inf,
) -> Float[Tensor, "time feature"]:
    """Return the traces z of a stream's features; λ is `decay`, c̄ is `trace_limit`."""
    return block_traces(transitions, decay, trace_limit)(slice(None), feature)


def block_traces(
    transitions: Transition, decay: float, trace_limit: float = math.inf
) -> Callable[[slice, Tensor], Tensor]:
    """Return a function that gives the traces of a stream block by block, as `stream_traces`.

    It takes rows of the stream and their features [block, feature], in the order of the stream,
    and keeps the last row in between.
    """
    carried = decay * transitions.discount * continued(transitions)
    arriving = (carried * transitions.ratio.clamp(max=trace_limit)).roll(1)
    last: Tensor | None = None

    def of_block(rows: slice, feature: Tensor) -> Tensor:
        nonlocal last
        ratio = transitions.ratio[rows].to(feature)[:, None]
        if decay == 0:
            return ratio * feature
        summed = linear_recurrence(arriving[rows].to(feature), feature, last)
        last = summed[-1].clone()
        return ratio * summed

    return of_block


def lambda_errors(
    td_error: Float[Tensor, "time *candidate"],
    transitions: Transition,
    decay: float | Float[Tensor, "*candidate"],
    used: Bool[Tensor, "time *candidate"] | None = None,
    trace_limit: float = math.inf,
) -> Float[Tensor, "time *candidate"]:
    """Return δ^λ_t = ρ_tδ_t + min(ρ_t, c̄)γ_tλδ^λ_{t+1}, for one value function or for several.

    td_error: δ, without the ratio
    decay:    λ, one for all or one per candidate
    used:     transitions that a candidate may see; the others have δ^λ = 0
    """
    trailing = [1] * (td_error.dim() - 1)
    ratio = transitions.ratio.to(td_error)
    carried = transitions.discount * continued(transitions)
    factor = carried.to(td_error) * ratio.clamp(max=trace_limit)
    factor = factor.reshape(-1, *trailing) * decay
    value = ratio.reshape(-1, *trailing) * td_error
    if used is not None:
        factor, value = factor * used, value * used
    return linear_recurrence(factor.flip(0), value.flip(0)).flip(0)


def td_errors(
    value: Float[Tensor, "time *candidate"],
    next_value: Float[Tensor, "time *candidate"],
    transitions: Transition,
) -> Float[Tensor, "time *candidate"]:
    """Return δ_t = r_t + γ_t V(s'_t) − V(s_t), without the ratio."""
    trailing = [1] * (value.dim() - 1)
    reward = transitions.reward.to(value).reshape(-1, *trailing)
    discount = transitions.discount.to(value).reshape(-1, *trailing)
    return reward + discount * next_value - value


def at_both_states(
    function: Callable[[Tensor], Tensor], transitions: Transition
) -> tuple[Float[Tensor, "time *item"], Float[Tensor, "time *item"]]:
    """Return a function's values at s and at s', evaluated once where s' is the next row's s.

    function: from observations [row, …] to [row, *item], each row by itself
    """
    following = transitions.next_observation
    apart = apart_rows(transitions)
    value = evaluated_in_blocks(function, transitions.observation)
    next_value = value.roll(-1, 0)
    next_value[apart] = evaluated_in_blocks(function, following[apart])
    return value, next_value


def apart_rows(transitions: Transition) -> Bool[Tensor, " time"]:
    """Tell which transitions lead to another observation than that of the next one."""
    observation, following = transitions.observation, transitions.next_observation
    apart = torch.ones(len(observation), dtype=torch.bool, device=observation.device)
    apart[:-1] = differing(following[:-1], observation[1:])
    return apart


def both_states_in_blocks(
    function: Callable[[Tensor], Tensor], transitions: Transition
) -> Iterator[tuple[slice, Float[Tensor, "block *item"], Float[Tensor, "block *item"]]]:
    """Go through a stream, with a function's values at s and at s' of a few transitions at a time.

    function: as in `at_both_states`
    """
    for rows in row_blocks(transitions.observation):
        block = mapped(transitions, itemgetter(rows))
        yield rows, *at_both_states(function, block)


class Returns(NamedTuple):
    """The discounted returns of a stream.

    value:     [time] Σ_k γ^k r_{t+k}, up to the termination or to the cut
    complete:  [time] whether what is missing is negligible: the episode terminated, or γ to the
               power of the transitions seen is below `NEGLIGIBLE`
    """

    value: Float[Tensor, " time"]
    complete: Bool[Tensor, " time"]


def discounted_returns(transitions: Transition) -> Returns:
    """Return the discounted return from every transition of a stream, in float64, ratios left out.

    What lies behind a cut is unknown: such a return is complete only where it counts for nothing.
    """
    reward = transitions.reward.double()
    discount = transitions.discount.double() * continued(transitions).double()
    value = linear_recurrence(discount.flip(0), reward.flip(0)).flip(0)
    # The weight that an unknown value behind the cut would have: γ_t γ_{t+1} … up to the cut.
    beyond = transitions.discount.double() * (1 - continued(transitions).double())
    remainder = linear_recurrence(discount.flip(0), beyond.flip(0)).flip(0)
    return Returns(value, remainder < NEGLIGIBLE)
