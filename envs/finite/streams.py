"""Transitions of a finite problem: streams that are simulated, and all with their probabilities."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.finite.finite_mdp import FiniteMDP, chain
from neural_tdc.device_memory import check_memory
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# Uniform numbers are drawn in pieces of this many steps, to bound the memory they take.
_PIECE = 2048
# The two random generators of a stream take so much of the host.
GENERATOR_BYTES = 5_000


class _Outcomes(NamedTuple):
    """Everything that can happen in one step under the behaviour, in the order of the states."""

    state: Tensor
    action: Tensor
    next_state: Tensor
    ended: Tensor
    reward: Tensor
    discount: Tensor
    ratio: Tensor
    probability: Tensor


def _outcomes(mdp: FiniteMDP) -> _Outcomes:
    possible = torch.cat([mdp.transition, mdp.termination[..., None]], -1)
    probability = possible * mdp.behaviour[..., None]
    state, action, following = (probability > 0).nonzero(as_tuple=True)
    reward = torch.cat([mdp.reward, mdp.terminal_reward[..., None]], -1)
    ended = following == len(mdp.start)
    return _Outcomes(
        state=state,
        action=action,
        next_state=torch.where(ended, state, following),
        ended=ended,
        reward=reward[state, action, following],
        discount=mdp.discount * (~ended).to(torch.float64),
        ratio=mdp.target[state, action] / mdp.behaviour[state, action],
        probability=probability[state, action, following],
    )


def exact_transitions(mdp: FiniteMDP) -> tuple[Transition, Float[Tensor, " batch"]]:
    """Return every transition that can happen, and its probability d(s) b(a|s) P(s'|s, a).

    Averages over the batch with these weights, which sum to 1, are expectations under the
    weighting and the behaviour. Observations are state numbers, as in `simulate_streams`; the
    rest is float64.
    """
    outcomes = _outcomes(mdp)
    weights = chain(mdp).weighting[outcomes.state] * outcomes.probability
    happens = weights > 0
    outcomes = _Outcomes(*(field[happens] for field in outcomes))
    transitions = Transition(
        observation=outcomes.state,
        reward=outcomes.reward,
        discount=outcomes.discount,
        next_observation=outcomes.next_state,
        ratio=outcomes.ratio,
    )
    return transitions, weights[happens]


def rmstde(
    mdp: FiniteMDP, features: Float[Tensor, "state d"], head: Float[Tensor, " d"]
) -> Float[Tensor, ""]:
    """Return the root mean squared TD error √E[ρδ²], in units of value, in float64."""
    batch, weights = exact_transitions(mdp)
    values = features.to(weights) @ head.to(weights)
    following = batch.discount * values[batch.next_observation]
    td_error = batch.reward + following - values[batch.observation]
    return (weights * batch.ratio * td_error.square()).sum().sqrt()


def _edges(outcomes: _Outcomes, states: int) -> Float[Tensor, " outcome"]:
    """Return cumulative probabilities of all states in one table: s owns the stretch (s, s + 1]."""
    totals = torch.zeros(states, dtype=torch.float64)
    totals.index_add_(0, outcomes.state, outcomes.probability)
    earlier = totals.cumsum(0) - totals
    within = outcomes.probability.cumsum(0) - earlier[outcomes.state]
    last = torch.ones_like(outcomes.ended)
    last[:-1] = outcomes.state[1:] != outcomes.state[:-1]
    return outcomes.state + torch.where(last, 1.0, within.clamp(0, 1))


def stream_bytes(streams: int, steps: int, dtype: torch.dtype) -> int:
    """Return what streams of transitions take on their device."""
    return streams * steps * (2 * 8 + 4 * dtype.itemsize)


def simulate_streams(
    mdp: FiniteMDP,
    streams: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transition:
    """Follow the behaviour policy and return streams of transitions, [stream, time].

    Like `simulate_actions`, without the actions.
    """
    return simulate_actions(mdp, streams, steps, seed, device, dtype)[0]


def simulate_actions(
    mdp: FiniteMDP,
    streams: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Transition, Int[Tensor, "stream time"]]:
    """Follow the behaviour policy; return streams of transitions and the actions taken in them.

    Observations are state numbers (int64), for a table such as `mdp.observation` or
    `mdp.features`; everything else has the given dtype. Where an episode ends the discount is 0,
    the next observation repeats the state itself (it has no successor, and counts for nothing),
    and the next entry of the stream starts a new episode, with `first` = 1. Stream i depends on
    the seed and i only, and a longer run continues a shorter one. Raises ValueError for fewer
    than one stream or step.
    """
    if streams < 1 or steps < 1:
        raise ValueError(f"streams and steps must be at least 1, not {streams} and {steps}")
    what = f"experience of {streams:,} × {steps:,} transitions of {mdp.name}"
    on_host = streams * GENERATOR_BYTES
    if torch.device(device).type != "cpu":
        on_host += 8 * streams * steps
    check_memory(what, stream_bytes(streams, steps, dtype), device, on_host)
    outcomes = _outcomes(mdp)
    edges = _edges(outcomes, len(mdp.start))
    starts = mdp.start.cumsum(0)
    starts[int(mdp.start.nonzero().max()) :] = 1.0
    any_end = bool(outcomes.ended.any())
    step_draws = [generator(seed, "finite", "step", stream) for stream in range(streams)]
    start_draws = [generator(seed, "finite", "start", stream) for stream in range(streams)]

    def uniforms(generators: list[torch.Generator], count: int) -> Tensor:
        drawn = [torch.rand(count, generator=g, dtype=torch.float64) for g in generators]
        # Short of 1 by more than the rounding of (state + uniform), so that no state is overrun.
        return torch.stack(drawn, 1).clamp(max=1 - 2**-32)

    def start_states(count: int) -> Tensor:
        return torch.searchsorted(starts, uniforms(start_draws, count), right=True)

    state = start_states(1)[0]
    taken = torch.empty(steps, streams, dtype=torch.int64)
    for begin in range(0, steps, _PIECE):
        size = min(_PIECE, steps - begin)
        draws = uniforms(step_draws, size)
        restarts = start_states(size) if any_end else None
        for time in range(size):
            outcome = torch.searchsorted(edges, state + draws[time], right=True)
            taken[begin + time] = outcome
            state = outcomes.next_state[outcome]
            if restarts is not None:
                state = torch.where(outcomes.ended[outcome], restarts[time], state)

    # Small steps one after another are what the CPU is faster at; all is moved once.
    taken = taken.mT.contiguous().to(device)
    outcomes = _Outcomes(*(field.to(device) for field in outcomes))
    first = torch.ones(streams, steps, dtype=dtype, device=device)
    first[:, 1:] = outcomes.ended[taken[:, :-1]].to(dtype)
    transitions = Transition(
        observation=outcomes.state[taken],
        reward=outcomes.reward.to(dtype)[taken],
        discount=outcomes.discount.to(dtype)[taken],
        next_observation=outcomes.next_state[taken],
        ratio=outcomes.ratio.to(dtype)[taken],
        first=first,
    )
    return transitions, outcomes.action[taken]
