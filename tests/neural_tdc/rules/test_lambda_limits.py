"""λ over segments: its limits, the backward view, and populations."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.algorithm import Algorithm, initial_state, population, step
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes, mapped
from tests.neural_tdc.rules.segments import (
    F64,
    FEATURE,
    STATE,
    close,
    draw,
    network,
    segments,
    with_lambda,
)


@pytest.mark.parametrize("name", [*RULES, "semi_gradient+lstd", "mspbe+td", "generalized+tdc"])
def test_with_lambda_zero_and_with_segments_of_one_every_bit_is_that_of_the_tables(name):
    if name in ("etd", "ttn", "fqe") or name.startswith("nonlinear"):
        with pytest.raises(ValueError, match=r"^trace_decay 0\.7 is not defined"):
            RULES[name].with_lambda_returns(0.7)
        assert RULES[name].with_lambda_returns(0.0) == RULES[name]
        return
    features, parameters = network()
    batch = segments()
    alone = batch._replace(first=torch.ones_like(batch.reward))
    generator = torch.Generator()
    rule = RULES[name]
    _, state = rule.init(parameters, batch.observation, generator.manual_seed(3))
    parameters = parameters._replace(
        auxiliary={**parameters.auxiliary, "generalized": draw(4 * FEATURE, seed=8)}
    )
    expected = rule.update(features, parameters, batch, state)
    directions = rule.directions(features, parameters, batch, expected)
    assert rule.with_lambda_returns(0.0) == rule
    changed = rule.with_lambda_returns(0.7)
    after = changed.update(features, parameters, alone, state)
    for one, other in zip(
        (directions.head, *directions.body.values(), *directions.auxiliary.values()),
        (lambda d: (d.head, *d.body.values(), *d.auxiliary.values()))(
            changed.directions(features, parameters, alone, after)
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


def backward_view(head, batch, parameters, decay):
    """Return the sums of what the eligibility traces subtract over a stream, all held still."""
    rule = RULES[f"frozen+{head}"].with_settings(trace_decay=decay)
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    total, auxiliary = 0, 0
    for k in range(len(batch.reward)):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        found = rule.directions(given_features, parameters, single, state)
        total = total + found.head
        auxiliary = auxiliary + sum(found.auxiliary.values())
    return total, auxiliary


@pytest.mark.parametrize("head", ["td", "gtd2", "htd"])
@pytest.mark.parametrize("decay", [0.3, 1.0])
def test_the_forward_view_is_the_backward_view_for_features_that_stand_still(head, decay):
    parameters = Parameters({}, draw(STATE, seed=1), dict.fromkeys(("tdc", "htd"), draw(STATE)))
    batch = segments()
    rule = RULES[f"frozen+{head}"].with_lambda_returns(decay)
    found = rule.directions(given_features, parameters, batch)
    total, auxiliary = backward_view(head, batch, parameters, decay)
    close(13 * found.head, total, 1e-13)
    if found.auxiliary:
        close(13 * sum(found.auxiliary.values()), auxiliary, 1e-13)


def test_tdc_forward_and_backward_differ_by_the_ratio_of_the_transition_that_is_reached():
    # What is carried to k+1 is corrected at φ'_k = φ_{k+1} in the backward view, and there, behind
    # ρ_{k+1}, in the forward view. On-policy they are the same where no episode is cut.
    parameters = Parameters({}, draw(STATE, seed=1), {"tdc": draw(STATE)})
    batch = segments(off_policy=False)
    ends = batch.first.roll(-1) == 1
    batch = batch._replace(discount=torch.where(ends, 0.0, batch.discount))
    found = (
        RULES["frozen+tdc"].with_lambda_returns(0.8).directions(given_features, parameters, batch)
    )
    total, auxiliary = backward_view("tdc", batch, parameters, 0.8)
    close(13 * found.head, total, 1e-13)
    close(13 * found.auxiliary["tdc"], auxiliary, 1e-13)


def test_lstd_of_segments_keeps_the_statistics_of_the_traces():
    parameters = Parameters({}, draw(STATE, seed=1), {})
    batch = segments()
    forward = RULES["frozen+lstd"].with_lambda_returns(0.7)
    _, state = forward.init(parameters, batch.observation, torch.Generator())
    whole = forward.update(given_features, parameters, batch, state).head
    traced = RULES["frozen+lstd"].with_settings(trace_decay=0.7, lstd_window=10**9)
    _, state = traced.init(parameters, batch.observation, torch.Generator())
    for k in range(13):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = traced.update(given_features, parameters, single, state)
    close(whole["matrix"], state.head["matrix"], 1e-13)
    close(whole["vector"], state.head["vector"], 1e-13)


@pytest.mark.parametrize("name", ["tdc", "htd", "residual", "generalized+tdrc"])
def test_a_population_with_lambda_equals_one_run_at_a_time(name):
    rule = with_lambda(name, 0.8)
    features, parameters = network()
    algorithm = Algorithm(rule, features)
    runs = []
    for seed in range(3):
        complete, state = rule.init(parameters, draw(4, STATE), torch.Generator().manual_seed(seed))
        started = complete._replace(head=draw(FEATURE, seed=seed))
        runs.append(initial_state(algorithm, started, state))
    batches = [segments(seed=seed) for seed in range(3)]
    sizes = StepSizes(0.1, 0.2, 0.3)
    together = population(partial(step, algorithm))(
        tree_map(lambda *leaves: torch.stack(leaves), *runs),
        tree_map(lambda *leaves: torch.stack(leaves), *batches),
        tree_map(lambda size: torch.full((3,), size, dtype=F64), sizes),
    )
    for run, (state, batch) in enumerate(zip(runs, batches, strict=True)):
        alone = step(algorithm, state, batch, sizes)
        for one, many in zip(tree_leaves(alone), tree_leaves(together), strict=True):
            assert torch.allclose(one, many[run], rtol=1e-12, atol=1e-14)
