"""Sampled directions of q, averaged over all pairs, are the exact gradients of their chain."""

import pytest
import torch
from torch.utils._pytree import tree_map

from envs.finite.finite_mdp import action_chain, chain
from envs.finite.standard_problems import problem
from neural_tdc.action_values.rows import (
    ActionHeads,
    ActionRows,
    action_transitions,
    ratio_on_arrival,
)
from neural_tdc.metrics.evaluators import Truth, action_chain_evaluator
from neural_tdc.metrics.value_errors import auxiliary_solution
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

F64 = torch.float64
FEATURE, HIDDEN = 3, 7
PROBLEMS = ["garnet-off-policy", "random-walk-dependent", "boyan"]


def network(mdp, seed=0):
    torch.manual_seed(seed)
    module = mlp(tuple(mdp.observation.shape[1:]), FEATURE, (HIDDEN,)).double()
    actions = mdp.target.shape[1]
    heads = ActionHeads(module, tuple(mdp.observation.shape[1:]), actions)
    body = {name: 2 * p.detach() for name, p in heads.named_parameters()}
    head = torch.randn(actions * FEATURE, dtype=F64)
    return feature_map(heads), Parameters(body, head, {})


def rows_of(mdp):
    return ActionRows(tuple(mdp.observation.shape[1:]), mdp.target.shape[1])


def pair_rows(mdp):
    """Return the row of every pair of state and action."""
    states, actions = mdp.target.shape
    observation = mdp.observation.repeat_interleave(actions, 0)
    return rows_of(mdp).at(observation, torch.eye(actions, dtype=F64).repeat(states, 1))


def everything(mdp):
    """Return all that can happen under the behaviour, as a rule learns from it, with weights."""
    outcomes = torch.cat([mdp.transition, mdp.termination[..., None]], -1)
    state, action, following = (outcomes * mdp.behaviour[..., None] > 0).nonzero(as_tuple=True)
    ended = following == len(mdp.start)
    reached = torch.where(ended, state, following)
    reward = torch.cat([mdp.reward, mdp.terminal_reward[..., None]], -1)
    weight = (
        chain(mdp).weighting[state]
        * (mdp.behaviour[..., None] * outcomes)[state, action, following]
    )
    seen = Transition(
        mdp.observation[state],
        reward[state, action, following],
        mdp.discount * (~ended).double(),
        mdp.observation[reached],
        # Ratios that are not 1 must not matter.
        3 * torch.ones_like(weight),
        torch.ones_like(weight),
    )
    made = action_transitions(rows_of(mdp), seen, action, mdp.target[reached])
    return ratio_on_arrival(made), weight


@pytest.mark.parametrize("name", PROBLEMS)
def test_averaged_directions_at_omega_star_are_the_exact_gradients(name):
    mdp = problem(name)
    features, parameters = network(mdp)
    gradients = action_chain(mdp).mspbe_gradients(features, parameters, pair_rows(mdp))
    parameters = parameters._replace(auxiliary={"tdc": gradients[2]})
    batch, weight = everything(mdp)
    single = Transition(*(leaf[:, None] for leaf in batch))
    for rule in (RULES["gtd2"], RULES["tdc"]):
        found = torch.vmap(lambda one, rule=rule: rule.directions(features, parameters, one))(
            single
        )
        body, head, auxiliary = (
            tree_map(lambda leaf: torch.tensordot(weight, leaf, 1), part) for part in found
        )
        for key, exact in gradients[0].items():
            assert torch.allclose(body[key], exact, rtol=1e-10, atol=1e-12)
        assert torch.allclose(head, gradients[1], rtol=1e-10, atol=1e-12)
        assert float(auxiliary["tdc"].abs().max()) < 1e-12


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_errors_of_q_and_of_v_from_it_are_exact(name):
    mdp = problem(name)
    features, parameters = network(mdp)
    states, actions = mdp.target.shape
    heads = parameters.head.view(actions, FEATURE)
    phi = features(parameters.body, pair_rows(mdp)).view(states, actions, actions, FEATURE)
    q = torch.stack([phi[:, a, a] @ heads[a] for a in range(actions)], 1)
    v = (mdp.target * q).sum(1)
    pairs, d = action_chain(mdp), chain(mdp).weighting
    of_v = (d * (v - chain(mdp).value()).square()).sum().sqrt()
    true_q = pairs.value().view(states, actions)
    of_q = (d[:, None] * mdp.behaviour * (q - true_q).square()).sum().sqrt()

    truth = Truth(rows_of(mdp).at(mdp.observation, mdp.target), d, chain(mdp).value(), 0.0)
    rule = RULES["tdc"]
    omega = auxiliary_solution(
        pairs.moments(features(parameters.body, pair_rows(mdp))), parameters.head
    )
    complete = parameters._replace(auxiliary={"tdc": omega})
    stacked = tree_map(lambda leaf: leaf[None], complete)
    found = action_chain_evaluator(pairs, pair_rows(mdp), truth, features, rule)(stacked)
    assert float(found["error/rmsve"]) == pytest.approx(float(of_v), rel=1e-10)
    assert float(found["error/rmsqe"]) == pytest.approx(float(of_q), rel=1e-10)
    assert float(found["tracking_error/auxiliary"]) < 1e-8
    mspbe = pairs.mspbe(features(parameters.body, pair_rows(mdp)), parameters.head)
    assert float(found["error/rmspbe"]) == pytest.approx(float(mspbe.sqrt()), rel=1e-6)
