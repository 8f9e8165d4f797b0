"""The chains of the coverage benchmark, with exact values, and logs of them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from envs.finite.finite_mdp import FiniteMDP, chain, finite_mdp
from envs.finite.standard_problems import boyan, garnet, random_walk_tabular
from envs.finite.streams import simulate_streams
from neural_tdc.types import Transition, mapped

STATES = 12


class Logs(NamedTuple):
    """Several logs of one chain.

    transitions: leaves [log, time, …]; observations are state numbers
    table:       [state, state] what a learner sees of each state: one-hot vectors
    start_value: [log] ρ(π), the exact mean of v over the distribution of starts; for a continuing
        chain v at the one start of the log
    """

    transitions: Transition
    table: Tensor
    start_value: Float[Tensor, " log"]


def _walk(right: float) -> FiniteMDP:
    """Return the random walk whose behaviour goes right with this probability."""
    mdp = random_walk_tabular()
    return finite_mdp(**{**mdp._asdict(), "behaviour": [[1 - right, right]] * 5})


def _garnet(off_policy: bool) -> FiniteMDP:
    return garnet(STATES, 3, 3, discount=0.9, off_policy=off_policy, feature_count=STATES)


CHAINS: dict[str, Callable[[], FiniteMDP]] = {
    "boyan": boyan,
    "walk": random_walk_tabular,
    "walk-rare": lambda: _walk(0.2),
    "garnet": lambda: _garnet(False),
    "garnet-off": lambda: _garnet(True),
}
# Transitions in a log.
SIZES = (500, 2_000)


def logs(name: str, size: int, first: int, count: int) -> Logs:
    """Return logs number `first` and the following ones of a chain, each from its own seed."""
    mdp = CHAINS[name]()
    value = chain(mdp).value()
    # One stream per seed, so that a log depends on its number alone.
    streams = [simulate_streams(mdp, 1, size, first + number) for number in range(count)]
    transitions = Transition(*(torch.cat(leaves) for leaves in zip(*streams)))
    transitions = mapped(
        transitions, lambda leaf: leaf if leaf.dtype == torch.int64 else leaf.double()
    )
    expected = (mdp.start @ value).expand(count)
    if not bool(mdp.termination.any()):
        expected = value[transitions.observation[:, 0]]
    return Logs(transitions, torch.eye(len(value), dtype=torch.float64), expected)
