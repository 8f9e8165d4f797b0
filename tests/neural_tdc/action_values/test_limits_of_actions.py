"""Values of actions: one action, one step, traces, populations, and rules that are refused."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_map

from neural_tdc.action_values.rows import (
    ActionHeads,
    ActionRows,
    action_transitions,
    ratio_on_arrival,
)
from neural_tdc.learning.algorithm import Algorithm, initial_state, population, step
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.rules.registry import BODY_ROWS, HEAD_ROWS, RULES
from neural_tdc.types import Parameters, StepSizes, mapped
from tests.neural_tdc.action_values.taken import (
    ACTION,
    AUXILIARIES,
    COUNT,
    F64,
    FEATURE,
    HIDDEN,
    ROWS,
    STATE,
    Taken,
    close,
    draw,
    flat,
    network,
)


@pytest.mark.parametrize("name", ["vtrace", "htd"])
def test_a_rule_that_is_td_without_ratios_is_refused(name):
    with pytest.raises(ValueError, match=rf"^rule '{name}' is TD for values of actions"):
        RULES[name].with_action_values()


def test_every_row_of_the_tables_is_defined_or_refused():
    defined = set()
    for body in BODY_ROWS:
        for head in HEAD_ROWS:
            try:
                RULES[f"{body}+{head}"].with_action_values()
            except ValueError:
                continue
            defined.add(head)
    assert set(HEAD_ROWS) - defined == {"vtrace", "htd"}


NO_ROW = ("vtrace", "htd", "etd", "generalized")
PAIRS = [f"{b}+{h}" for b in BODY_ROWS for h in HEAD_ROWS if not {b, h} & set(NO_ROW)]


@pytest.mark.parametrize("name", PAIRS)
def test_with_one_action_q_learns_what_v_learns_to_the_bit(name):
    # Not the generalized rule: its ψ is a function of the row, which has the action's weight too.
    module = mlp((STATE,), FEATURE, (HIDDEN,)).double()
    seen = Taken().seen._replace(ratio=torch.ones(COUNT, dtype=F64))
    rows = ActionRows((STATE,), 1)
    none, certain = torch.zeros(COUNT, dtype=torch.int64), torch.ones(COUNT, 1, dtype=F64)
    batch = ratio_on_arrival(action_transitions(rows, seen, none, certain))
    body = {name: p.detach() for name, p in module.named_parameters()}
    of_rows = feature_map(ActionHeads(module, (STATE,), 1))
    of_states = Parameters(body, draw(FEATURE), {each: draw(FEATURE) for each in AUXILIARIES})
    of_actions = of_states._replace(body={f"body.{key}": body[key] for key in body})
    for decay in (0.0, 0.6):
        rule = RULES[name].with_lambda_returns(decay)
        _, state = rule.init(of_states, seen.observation, torch.Generator())
        found = []
        cases = ((feature_map(module), of_states, seen), (of_rows, of_actions, batch))
        for features, parameters, learned in cases:
            after = rule.update(features, parameters, learned, state)
            found.append(rule.directions(features, parameters, learned, after))
        v, q = found
        assert torch.equal(q.head, v.head)
        assert all(torch.equal(q.body[f"body.{key}"], v.body[key]) for key in body)
        assert all(torch.equal(q.auxiliary[key], v.auxiliary[key]) for key in v.auxiliary)


def test_segments_of_one_and_lambda_zero_are_the_table_to_the_bit():
    _, features, parameters = network()
    taken = Taken()
    alone = taken.batch._replace(first=torch.ones(COUNT, dtype=F64))
    for name in ("tdc", "gtd2", "tdrc", "td", "residual"):
        table = RULES[name].directions(features, parameters, taken.batch)
        segmented = RULES[name].with_lambda_returns(0.7).directions(features, parameters, alone)
        assert torch.equal(table.head, segmented.head)
        assert all(torch.equal(table.body[key], segmented.body[key]) for key in table.body)


@pytest.mark.parametrize("head", ["td", "gtd2"])
def test_traces_on_given_features_are_the_forward_view(head):
    taken = Taken()
    rows = ActionRows((STATE,), ACTION, given=True)
    made = action_transitions(rows, taken.seen, taken.action, taken.next_probability)
    batch = ratio_on_arrival(made)
    blocks = ACTION * STATE
    parameters = Parameters({}, draw(blocks, seed=1), {"tdc": draw(blocks, seed=2)})
    forward = RULES[f"frozen+{head}"].with_lambda_returns(0.7)
    found = forward.directions(given_features, parameters, batch)
    rule = RULES[f"frozen+{head}"].with_settings(trace_decay=0.7)
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    total = 0
    for k in range(COUNT):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        total = total + rule.directions(given_features, parameters, single, state).head
    close(COUNT * found.head, total)


def test_emphasis_follows_pairs_by_the_ratio_of_the_action_that_is_reached():
    taken = Taken()
    batch, rule = taken.batch, RULES["frozen+etd"].with_action_values()
    parameters = Parameters({}, draw(STATE + ACTION), {})
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    emphasis, (_, _, discount, _, ratio, first) = 0.0, taken.seen
    for k in range(COUNT):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        # F_k = 1 + γ_{k−1}ρ_kF_{k−1}: the ratio of the action of the pair that is reached.
        emphasis = 1 + (0.0 if first[k] else discount[k - 1] * ratio[k] * emphasis)
        assert float(state.weight["emphasis"]) == pytest.approx(float(emphasis), abs=1e-13)


@pytest.mark.parametrize(("action", "last"), [(-1, 4), (5, 4)])
def test_an_action_that_there_is_not_is_refused(action, last):
    with pytest.raises(ValueError, match=f"^actions are numbered from 0 to {last}$"):
        ROWS.weights(torch.tensor([0, action]), torch.zeros(2))


def test_a_population_learns_q_as_each_run_alone():
    _, features, parameters = network()
    rule = RULES["tdc"].with_action_values().with_lambda_returns(0.6)
    algorithm = Algorithm(rule, features)
    taken = [Taken(seed).batch for seed in range(3)]
    runs = []
    for seed in range(3):
        begun = parameters._replace(head=draw(ACTION * FEATURE, seed=seed + 40), auxiliary={})
        complete, state = rule.init(begun, taken[0].observation, torch.Generator())
        runs.append(initial_state(algorithm, complete, state))
    sizes = StepSizes(0.1, 0.2, 0.3)
    together = population(partial(step, algorithm))(
        tree_map(lambda *leaves: torch.stack(leaves), *runs),
        tree_map(lambda *leaves: torch.stack(leaves), *taken),
        tree_map(lambda size: torch.full((3,), size, dtype=F64), sizes),
    )
    for number, (state, batch) in enumerate(zip(runs, taken, strict=True)):
        alone = step(algorithm, state, batch, sizes)
        assert not torch.equal(alone.parameters.head, state.parameters.head)
        close(together.parameters.head[number], alone.parameters.head)
        close(
            flat({key: leaf[number] for key, leaf in together.parameters.body.items()}),
            flat(alone.parameters.body),
        )
