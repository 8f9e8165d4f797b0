"""Fitted Q-evaluation by a target network: its targets stand still, then are renewed."""

import pytest
import torch
from torch.utils._pytree import tree_map

from envs.finite.finite_mdp import action_chain
from envs.finite.standard_problems import problem as finite_problem
from envs.finite.streams import simulate_actions
from neural_tdc.evaluation import evaluate
from neural_tdc.learning.algorithm import Algorithm, initial_state, step
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, mapped
from tests.neural_tdc.rules.rule_problem import flat, problem, relative_error

RULE = RULES["fqe"].with_settings(target_period=3)


def begun(features, parameters, batch):
    parameters = parameters._replace(auxiliary={})
    return RULE.init(parameters, batch.observation, torch.Generator())


@pytest.mark.parametrize("on_policy", [True, False])
def test_the_directions_are_the_gradient_with_the_target_held_still(on_policy):
    features, parameters, batch = problem((6,), on_policy)
    parameters, state = begun(features, parameters, batch)
    moved = parameters._replace(
        body=tree_map(lambda leaf: 0.7 * leaf, parameters.body), head=parameters.head + 1
    )
    state = RULE.update(features, parameters, batch, state)
    target = features(parameters.body, batch.next_observation) @ parameters.head
    goal = batch.reward + batch.discount * target

    def objective(body, head):
        error = goal - features(body, batch.observation) @ head
        return 0.5 * (batch.ratio * error.square()).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(moved.body, moved.head)
    found = RULE.directions(features, moved, batch, state)
    assert relative_error(flat(found.body), flat(body)) < 1e-10
    assert relative_error(found.head, head) < 1e-10
    assert found.auxiliary == {}


def test_the_copy_is_renewed_every_period_and_period_one_is_td():
    features, parameters, batch = problem((6,), False)
    parameters, rule_state = begun(features, parameters, batch)
    algorithm = Algorithm(RULE, features)
    state = initial_state(algorithm, parameters, rule_state)
    heads, copies = [], []
    for _ in range(7):
        heads.append(state.parameters.head)
        state = step(algorithm, state, batch, StepSizes(0.1, 0.1, 0.0))
        copies.append(state.rule_state["head"])
    kept = [0, 0, 0, 3, 3, 3, 6]
    assert all(torch.equal(copy, heads[number]) for copy, number in zip(copies, kept, strict=True))

    every = RULES["fqe"].with_settings(target_period=1)
    moved = parameters._replace(head=parameters.head + 1)
    renewed = every.update(features, moved, batch, {**rule_state, "age": torch.ones(())})
    found = every.directions(features, moved, batch, renewed)
    td = RULES["td"].directions(features, moved, batch)
    assert relative_error(found.head, td.head) < 1e-12
    assert relative_error(flat(found.body), flat(td.body)) < 1e-12


def test_q_of_a_chain_is_found_off_policy():
    mdp = finite_problem("random-walk-tabular")
    seen, action = simulate_actions(mdp, 1, 1500, seed=0)
    stream = mapped(seen, lambda leaf: leaf[0])
    table = torch.eye(5)
    stream = stream._replace(
        observation=table[stream.observation],
        next_observation=table[stream.next_observation],
        ratio=torch.ones(1500),
    )
    found = evaluate(
        stream,
        values="q",
        action=action[0],
        policy=lambda observation: mdp.target.float()[observation.argmax(1)],
        body=None,
        rule=RULES["fqe"].with_settings(target_period=8),
        sampling="iid",
        batch=128,
        head_step=4.0,
        steps=300,
        measure_every=300,
    )
    q = action_chain(mdp).value().view(5, 2).float()
    states, each = torch.eye(5).repeat_interleave(2, 0), torch.arange(10) % 2
    assert (found.value(states, action=each) - q.flatten()).abs().max() < 0.01


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"^rule 'fqe' has no setting epsilon$"):
        RULES["fqe"].with_settings(epsilon=0.1)
    with pytest.raises(ValueError, match=r"^trace_decay 0\.5 is not defined for the rule 'fqe'"):
        RULES["fqe"].with_lambda_returns(0.5)
