"""Finite Markov decision processes with a target and a behaviour policy.

A `FiniteMDP` is the one definition from which everything comes: the simulator, the `MarkovChain`
with its true value and weighting, and the exact expectations over all transitions.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from envs.finite.tables import distributions, numbers
from neural_tdc.metrics.markov_chain import MarkovChain, stationary_weighting
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# Uniform numbers are drawn in pieces of this many steps, to bound the memory they take.
_PIECE = 2048


class FiniteMDP(NamedTuple):
    """A finite Markov decision process and the policies to evaluate and to follow in it.

    Make it with `finite_mdp`, which checks everything. All tables are float64 on the CPU.

    transition:      [S, A, S] probability of s' after action a in s
    reward:          [S, A, S] reward of that transition
    discount:        γ
    termination:     [S, A] probability that the episode ends; with the transitions it sums to 1
    terminal_reward: [S, A] reward of the step that ends the episode
    start:           [S] probabilities of an episode's first state
    target:          [S, A] π, the policy to evaluate
    behaviour:       [S, A] b, the policy that acts
    observation:     [S, o] what a neural body sees of a state
    features:        [S, d] given features φ(s)
    initial_head:    [d] θ at the start of learning on the given features, None for the usual one
    steps:           the field's usual number of steps
    name:            the problem's name
    """

    transition: Tensor
    reward: Tensor
    discount: float
    termination: Tensor
    terminal_reward: Tensor
    start: Tensor
    target: Tensor
    behaviour: Tensor
    observation: Tensor
    features: Tensor
    initial_head: Tensor | None
    steps: int
    name: str

    @property
    def width(self) -> int:
        """Features that a body should learn here: half the states, since all would be trivial."""
        return max(1, len(self.start) // 2)


def finite_mdp(
    transition: Any,
    reward: Any,
    discount: float,
    termination: Any = None,
    terminal_reward: Any = None,
    start: Any = None,
    target: Any = None,
    behaviour: Any = None,
    observation: Any = None,
    features: Any = None,
    initial_head: Any = None,
    steps: int = 10_000,
    name: str = "finite problem",
) -> FiniteMDP:
    """Make a checked `FiniteMDP` from tensors, arrays or nested lists.

    Shapes are those of `FiniteMDP`. What is left out: no termination; rewards of 0 at an end; a
    uniform start; of the two policies the other one, and the uniform policy where both are left
    out; one-hot observations and features. Raises ValueError with one line, naming state and
    action, for wrong shapes, numbers that are not finite, probabilities that are negative or do
    not sum to 1, an action that the target takes and the behaviour never does, a discount outside
    [0, 1], a discount of 1 where the target policy may go on for ever, and a behaviour without a
    single stationary distribution. Sums within 1e-6 of 1 are taken as rounding and normalised.
    """
    P = numbers("transition", transition, "states", "actions", "states")
    states, actions, _ = P.shape
    one_hot = torch.eye(states, dtype=torch.float64)
    none = torch.zeros(states, actions, dtype=torch.float64)
    anywhere = torch.full_like(P[:, 0, 0], 1 / states)

    def table(name: str, given: Any, default: Any, *shape: int | str) -> Tensor:
        return numbers(name, default if given is None else given, *shape)

    def policy(name: str, given: Any) -> Tensor | None:
        if given is None:
            return None
        return distributions(name, numbers(name, given, states, actions), ("state",))

    policies = [policy("target", target), policy("behaviour", behaviour)]
    either = next((given for given in policies if given is not None), none + 1 / actions)
    pi, b = (either if given is None else given for given in policies)
    uncovered = (pi > 0) & (b == 0)
    if bool(uncovered.any()):
        state, action = uncovered.nonzero()[0].tolist()
        raise ValueError(
            f"the target policy takes action {action} in state {state}, but the behaviour policy "
            f"never does: its probability there must be positive"
        )
    ends = table("termination", termination, none, states, actions)
    outcomes = torch.cat([P, ends[..., None]], -1)
    outcomes = distributions("transition and termination", outcomes, ("state", "action"))
    given_features = table("features", features, one_hot, states, "features")
    if steps < 1:
        raise ValueError(f"steps is {steps}, but must be at least 1")
    mdp = FiniteMDP(
        transition=outcomes[..., :-1],
        reward=numbers("reward", reward, states, actions, states),
        discount=float(discount),
        termination=outcomes[..., -1],
        terminal_reward=table("terminal_reward", terminal_reward, none, states, actions),
        start=distributions("start", table("start", start, anywhere, states), ()),
        target=pi,
        behaviour=b,
        observation=table("observation", observation, one_hot, states, "numbers"),
        features=given_features,
        initial_head=None
        if initial_head is None
        else numbers("initial_head", initial_head, given_features.shape[1]),
        steps=steps,
        name=name,
    )
    # The chain's own checks are the rest: discount, endless chains, stationary distribution.
    chain(mdp)
    return mdp


def checked(mdp: FiniteMDP) -> FiniteMDP:
    """Return the same problem after the checks of `finite_mdp`, for one that was made by hand."""
    return finite_mdp(**mdp._asdict())


def chain(mdp: FiniteMDP) -> MarkovChain:
    """Return the chain of the target policy, weighted as the behaviour policy visits states.

    r(s) is the expected reward under the target, terminal rewards included; the weighting is the
    stationary distribution of the behaviour's chain, in which an end leads back to the start.
    """
    expected = (mdp.transition * mdp.reward).sum(-1) + mdp.termination * mdp.terminal_reward
    behaved = torch.einsum("sa,sat->st", mdp.behaviour, mdp.transition)
    ended = (mdp.behaviour * mdp.termination).sum(1)
    return MarkovChain(
        transition=torch.einsum("sa,sat->st", mdp.target, mdp.transition),
        reward=(mdp.target * expected).sum(1),
        discount=mdp.discount,
        weighting=stationary_weighting(behaved + torch.outer(ended, mdp.start), mdp.start),
    )


class _Outcomes(NamedTuple):
    """Everything that can happen in one step under the behaviour, in the order of the states."""

    state: Tensor
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
    weighting and the behaviour. Observations are state numbers, as in `simulate`; the rest is
    float64.
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


def simulate(
    mdp: FiniteMDP,
    streams: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transition:
    """Follow the behaviour policy and return streams of transitions, [stream, time].

    Observations are state numbers (int64), for a table such as `mdp.observation` or
    `mdp.features`; everything else has the given dtype. Where an episode ends the discount is 0,
    the next observation repeats the state itself (it has no successor, and counts for nothing),
    and the next entry of the stream starts a new episode, with `first` = 1. Stream i depends on
    the seed and i only, and a longer run continues a shorter one. Raises ValueError for fewer
    than one stream or step.
    """
    if streams < 1 or steps < 1:
        raise ValueError(f"streams and steps must be at least 1, not {streams} and {steps}")
    outcomes = _outcomes(mdp)
    edges = _edges(outcomes, len(mdp.start)).to(device)
    starts = mdp.start.cumsum(0)
    starts[int(mdp.start.nonzero().max()) :] = 1.0
    starts = starts.to(device)
    any_end = bool(outcomes.ended.any())
    outcomes = _Outcomes(*(field.to(device) for field in outcomes))
    step_draws = [generator(seed, "finite", "step", stream) for stream in range(streams)]
    start_draws = [generator(seed, "finite", "start", stream) for stream in range(streams)]

    def uniforms(generators: list[torch.Generator], count: int) -> Tensor:
        drawn = [torch.rand(count, generator=g, dtype=torch.float64) for g in generators]
        # Short of 1 by more than the rounding of (state + uniform), so that no state is overrun.
        return torch.stack(drawn, 1).clamp(max=1 - 2**-32).to(device)

    def start_states(count: int) -> Tensor:
        return torch.searchsorted(starts, uniforms(start_draws, count), right=True)

    state = start_states(1)[0]
    taken = torch.empty(steps, streams, dtype=torch.int64, device=device)
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

    taken = taken.mT.contiguous()
    first = torch.ones(streams, steps, dtype=dtype, device=device)
    first[:, 1:] = outcomes.ended[taken[:, :-1]].to(dtype)
    return Transition(
        observation=outcomes.state[taken],
        reward=outcomes.reward.to(dtype)[taken],
        discount=outcomes.discount.to(dtype)[taken],
        next_observation=outcomes.next_state[taken],
        ratio=outcomes.ratio.to(dtype)[taken],
        first=first,
    )
