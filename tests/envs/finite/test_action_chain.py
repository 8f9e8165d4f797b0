"""The chain of pairs of state and action: q exact, and V from it."""

import pytest
import torch

from envs.finite.finite_mdp import action_chain, chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_actions, simulate_streams

F64 = torch.float64
PROBLEMS = ["garnet-off-policy", "random-walk-tabular", "boyan", "baird"]


def test_q_of_the_random_walk_by_hand():
    # v = (−.2692, .2180, .5429, .7594, .9038); the ends pay −1 and +1.
    q = action_chain(problem("random-walk-tabular")).value().view(5, 2)
    by_hand = [[-1, 0.2180], [-0.2692, 0.5429], [0.2180, 0.7594], [0.5429, 0.9038], [0.7594, 1]]
    assert torch.allclose(q, torch.tensor(by_hand, dtype=F64), atol=5e-5)


@pytest.mark.parametrize("name", PROBLEMS)
def test_v_is_the_mean_of_q_under_the_target(name):
    mdp = problem(name)
    q = action_chain(mdp).value().view(mdp.target.shape)
    assert torch.allclose((mdp.target * q).sum(1), chain(mdp).value(), atol=1e-10)


@pytest.mark.parametrize("name", PROBLEMS)
def test_pairs_are_weighted_as_the_behaviour_visits_them(name):
    mdp = problem(name)
    weighting = action_chain(mdp).weighting.view(mdp.target.shape)
    assert torch.allclose(weighting.sum(1), chain(mdp).weighting, atol=1e-14)
    states, actions = simulate_actions(mdp, 1, 40_000, seed=0)
    pair = states.observation[0] * mdp.target.shape[1] + actions[0]
    seen = torch.bincount(pair, minlength=weighting.numel()) / len(pair)
    assert (seen - weighting.flatten()).abs().max() < 0.02


def test_the_actions_are_those_of_the_stream():
    mdp = problem("garnet-off-policy")
    seen, action = simulate_actions(mdp, 2, 300, seed=3, dtype=F64)
    again = simulate_streams(mdp, 2, 300, seed=3, dtype=F64)
    assert all(torch.equal(one, other) for one, other in zip(seen, again, strict=True))
    ratio = mdp.target[seen.observation, action] / mdp.behaviour[seen.observation, action]
    assert torch.equal(seen.ratio, ratio)
    reached = mdp.transition[seen.observation, action, seen.next_observation]
    assert bool((reached > 0).all())
