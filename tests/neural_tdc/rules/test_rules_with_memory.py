"""Rules that remember more than ω: follow-on traces, LSTD, slow heads, snapshots."""

import pytest
import torch

from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters
from tests.neural_tdc.rules.rule_problem import (
    BATCH,
    FEATURE,
    STATE,
    flat,
    problem,
    quantities,
    relative_error,
)


def test_a_snapshot_is_renewed_after_its_period():
    features, parameters, batch = problem()
    rule = RULES["generalized"].with_settings(psi="snapshot", psi_period=2)
    parameters, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(0))
    moved = parameters._replace(body={n: p + 1 for n, p in parameters.body.items()})
    name = next(iter(parameters.body))
    seen = []
    for _ in range(4):
        state = rule.update(features, moved, batch, state)
        copy = state.auxiliary["generalized"]["body"]
        seen.append(bool(torch.equal(copy[name], moved.body[name])))
    assert seen == [False, False, True, True]


def test_emphatic_trace_follows_its_recursion():
    rule = RULES["etd"]
    features, parameters, _ = problem()
    parameters, state = rule.init(parameters, torch.zeros(2, STATE).double(), torch.Generator())
    ratios, discounts, firsts = [0.5, 2.0, 3.0, 1.5], [0.9, 0.0, 0.8, 0.9], [1, 0, 0, 0]
    # F₀ = 1, F₁ = 1 + .9·.5·1 = 1.45, F₂ = 1 (an end lies between), F₃ = 1 + .8·3·1 = 3.4
    for expected, ratio, discount, first in zip([1, 1.45, 1, 3.4], ratios, discounts, firsts):
        _, _, batch = problem(batch=1)
        batch = batch._replace(
            ratio=torch.tensor([ratio], dtype=torch.float64),
            discount=torch.tensor([discount], dtype=torch.float64),
            first=torch.tensor([first], dtype=torch.float64),
        )
        state = rule.update(features, parameters, batch, state)
        assert float(state.weight["emphasis"]) == pytest.approx(expected, abs=1e-15)
        emphatic = rule.directions(features, parameters, batch, state)
        plain = RULES["td"].directions(features, parameters, batch)
        assert relative_error(emphatic.head, expected * plain.head) < 1e-12
        assert relative_error(flat(emphatic.body), expected * flat(plain.body)) < 1e-12


def test_emphatic_trace_starts_afresh_where_an_episode_was_cut():
    _, parameters, batch = problem(batch=1)
    weight = {"emphasis": torch.ones(1), "carried": torch.full((1,), 4.0)}
    state = NO_STATE._replace(weight=weight)
    first = batch._replace(first=torch.ones(1))
    again = RULES["etd"].update(lambda *_: None, parameters, first, state)
    assert float(again.weight["emphasis"]) == 1


def test_emphatic_td_refuses_a_larger_batch():
    rule = RULES["etd"]
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator())
    with pytest.raises(ValueError, match="batch 1, not batch 7"):
        rule.update(features, parameters, batch, state)


def test_lstd_head_is_assigned_the_solution_of_all_that_was_seen():
    rule = RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-3)
    features, parameters, _ = problem()
    batches = [problem(seed=seed)[2] for seed in range(5)]
    parameters, state = rule.init(parameters, batches[0].observation, torch.Generator())
    matrix = torch.zeros(FEATURE, FEATURE).double()
    vector = torch.zeros(FEATURE).double()
    for batch in batches:
        state = rule.update(features, parameters, batch, state)
        phi, phi_next, _ = quantities(features, parameters, batch)
        for i in range(BATCH):
            difference = phi[i] - batch.discount[i] * phi_next[i]
            matrix += batch.ratio[i] * torch.outer(phi[i], difference) / (5 * BATCH)
            vector += batch.ratio[i] * batch.reward[i] * phi[i] / (5 * BATCH)
    expected = torch.linalg.solve(matrix + 1e-3 * torch.eye(FEATURE).double(), vector)
    direction = rule.directions(features, parameters, batches[-1], state).head
    assert relative_error(parameters.head - direction, expected) < 1e-10


def test_lstd_with_a_window_of_one_batch_forgets_the_others():
    rule = RULES["frozen+lstd"].with_settings(lstd_window=1)
    features, parameters, batch = problem()
    parameters, fresh = rule.init(parameters, batch.observation, torch.Generator())
    old = rule.update(features, parameters, problem(seed=9)[2], fresh)
    after_old = rule.update(features, parameters, batch, old)
    alone = rule.update(features, parameters, batch, fresh)
    assert torch.allclose(after_old.head["matrix"], alone.head["matrix"], atol=1e-15)
    assert not torch.allclose(after_old.head["matrix"], old.head["matrix"])


def test_two_timescale_body_follows_its_own_slow_head():
    rule = RULES["ttn"]
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator())
    slow = torch.randn(FEATURE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parameters = parameters._replace(body={**parameters.body, "slow_head": slow})
    directions = rule.directions(features, parameters, batch, state)
    as_td = Parameters({n: p for n, p in parameters.body.items() if n != "slow_head"}, slow, {})
    reference = RULES["td"].directions(features, as_td, batch)
    names = list(as_td.body)
    assert (
        relative_error(flat({n: directions.body[n] for n in names}), flat(reference.body)) < 1e-12
    )
    assert relative_error(directions.body["slow_head"], reference.head) < 1e-12
    fast = RULES["frozen+tdc"].directions(features, parameters, batch)
    assert torch.equal(directions.head, fast.head)
    assert torch.equal(directions.auxiliary["tdc"], fast.auxiliary["tdc"])


def test_a_slow_head_is_drawn_like_a_layer_so_that_the_body_moves_at_once():
    features, parameters, batch = problem()
    parameters = parameters._replace(head=torch.zeros(FEATURE, dtype=torch.float64))
    drawn = []
    for seed in range(200):
        source = torch.Generator().manual_seed(seed)
        started, state = RULES["ttn"].init(parameters, batch.observation, source)
        drawn.append(started.body["slow_head"])
    bound = (6 / (FEATURE + 1)) ** 0.5
    slow = torch.stack(drawn)
    assert float(slow.abs().max()) < bound
    assert float(slow.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
    directions = RULES["ttn"].directions(features, started, batch, state)
    assert all(float(directions.body[name].norm()) > 1e-3 for name in parameters.body)
    # The head that gives the values starts at 0.
    assert torch.equal(started.head, parameters.head)
