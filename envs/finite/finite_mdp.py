"""Finite Markov decision processes with a target and a behaviour policy.

A `FiniteMDP` is the one definition from which everything comes: the `MarkovChain` with its true
value and weighting here, simulated streams and exact expectations in `envs.finite.streams`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.finite.tables import distributions, numbers
from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.transition_matrices import stationary_weighting


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
    notes:           lines worth printing, such as where the tables come from
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
    notes: tuple[str, ...] = ()

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
    notes: tuple[str, ...] = (),
) -> FiniteMDP:
    """Make a checked `FiniteMDP` from tensors, arrays or nested lists.

    Shapes are those of `FiniteMDP`. What is left out: no termination; rewards of 0 at an end; a
    uniform start; of the two policies the other one, and the uniform policy where both are left
    out; one-hot observations and features. Raises ValueError with one line, naming state and
    action, for wrong shapes, numbers that are not finite, probabilities that are negative or do
    not sum to 1, an action that the target takes and the behaviour never does, a discount outside
    [0, 1], a discount of 1 where the target policy may never terminate, and a behaviour without a
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
        notes=notes,
    )
    # The chain's own checks are the rest: discount, endless chains, stationary distribution.
    chain(mdp)
    return mdp


def checked_mdp(mdp: FiniteMDP) -> FiniteMDP:
    """Return the same problem after the checks of `finite_mdp`, for one that was made by hand."""
    return finite_mdp(**mdp._asdict())


def chain(mdp: FiniteMDP) -> MarkovChain:
    """Return the chain of the target policy, weighted as the behaviour policy visits states.

    r(s) is the expected reward under the target, terminal rewards included; the weighting is the
    stationary distribution of the behaviour's chain, in which an end leads back to the start.
    """
    behaved = torch.einsum("sa,sat->st", mdp.behaviour, mdp.transition)
    ended = (mdp.behaviour * mdp.termination).sum(1)
    return MarkovChain(
        transition=torch.einsum("sa,sat->st", mdp.target, mdp.transition),
        reward=(mdp.target * _expected_reward(mdp)).sum(1),
        discount=mdp.discount,
        weighting=stationary_weighting(behaved + torch.outer(ended, mdp.start), mdp.start),
    )


def action_chain(mdp: FiniteMDP) -> MarkovChain:
    """Return the chain of pairs of state and action, whose value is q; pair s·A + a.

    A pair is followed by a state and the target's action there. The weighting is d(s)b(a|s), the
    frequency of pairs under the behaviour policy.
    """
    states, actions, _ = mdp.transition.shape
    following = torch.einsum("sat,tb->satb", mdp.transition, mdp.target)
    return MarkovChain(
        transition=following.reshape(states * actions, states * actions),
        reward=_expected_reward(mdp).flatten(),
        discount=mdp.discount,
        weighting=(chain(mdp).weighting[:, None] * mdp.behaviour).flatten(),
    )


def _expected_reward(mdp: FiniteMDP) -> Tensor:
    """Return r(s, a), [S, A]."""
    return (mdp.transition * mdp.reward).sum(-1) + mdp.termination * mdp.terminal_reward
