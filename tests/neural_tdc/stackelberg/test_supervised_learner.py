"""The loop around a supervised population, and the heads that answer in it."""

from itertools import pairwise

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.learner import divergence_limit
from neural_tdc.learning.optimisers import PLAIN_STEPS
from neural_tdc.learning.projections import projection
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    NetworkObjective,
    features,
    gradients,
    initial_networks,
)
from neural_tdc.randomness import generator, keys
from neural_tdc.stackelberg.best_responses import ridge_response
from neural_tdc.stackelberg.supervised import (
    Learning,
    Rates,
    Responder,
    Samples,
    arm_parameters,
    batch_of,
    initial_supervised_state,
)
from neural_tdc.stackelberg.supervised_learner import (
    answered,
    best_response,
    learn_supervised,
)
from neural_tdc.types import Parameters

F64 = torch.float64
SEEDS, SIZE, BATCH = 3, 40, 8
KEY = keys(0, SEEDS, "batch")
RATES = Rates(0.01, 0.1)


def data(labels=False):
    source = generator(0, "samples")
    x = torch.randn(SEEDS * SIZE, 4, generator=source, dtype=F64)
    y = torch.randn(SEEDS * SIZE, 1, generator=source, dtype=F64)
    if labels:
        y = torch.randint(5, (SEEDS * SIZE,), generator=source)
    return Samples(x, y, torch.arange(SEEDS) * SIZE, SIZE)


def learning(arms=("split", "limit"), loss=SQUARED, rates=RATES, every=1, samples=25):
    return Learning(
        NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS["tanh"], 0.01),
        arms,
        rates,
        BATCH,
        PLAIN_STEPS,
        schedule("constant"),
        projection("none"),
        Responder(every, samples, 1e-8),
    )


def run(chosen, seen, steps, **arguments):
    networks = initial_networks((4, 6, 5 if chosen.objective.loss is CROSS_ENTROPY else 1), 0,
                                SEEDS, F64)  # fmt: skip
    state = arguments.pop("state", None) or initial_supervised_state(chosen, networks)
    usual = {"measure_every": 10, "limit": divergence_limit(networks)} | arguments
    return list(learn_supervised(chosen, seen, KEY, state, steps=steps, **usual))


def test_measurements_come_before_the_first_update_and_after_the_last():
    assert measured_steps(25, 10, first=0) == [0, 10, 20, 25]
    assert measured_steps(20, 10, first=0) == [0, 10, 20]
    assert measured_steps(25, 10, first=0, after=10) == [20, 25]
    assert measured_steps(25, 10, first=0, after=0) == [10, 20, 25]
    assert [each.step for each in run(learning(), data(), 25)] == [0, 10, 20, 25]


@pytest.mark.parametrize("labels", [False, True])
def test_a_best_response_has_no_gradient_in_the_head(labels):
    objective = NetworkObjective(
        CROSS_ENTROPY if labels else SQUARED, CLOSED_FORM_ACTIVATIONS["relu"], 0.01
    )
    network = tree_map(
        lambda leaf: leaf[1], initial_networks((4, 6, 5 if labels else 1), 0, 2, F64)
    )
    inputs, target = data(labels).of(2)
    found = best_response(objective, network, inputs, target, 1e-10)
    slope = gradients(objective, network._replace(head=found.head), inputs, target).head
    assert slope.abs().max() < 1e-10
    assert found.residual == pytest.approx(float(slope.abs().max()), abs=1e-12)


def test_a_response_that_does_not_converge_is_handed_back_with_its_residual():
    objective = NetworkObjective(CROSS_ENTROPY, CLOSED_FORM_ACTIVATIONS["relu"], 1e-6)
    network = tree_map(lambda leaf: leaf[0], initial_networks((4, 6, 5), 0, 1, F64))
    found = best_response(objective, network, *data(True).of(0), tolerance=1e-30)
    assert found.residual > 1e-30


def test_a_singular_response_without_a_ridge_says_so():
    objective = NetworkObjective(SQUARED, CLOSED_FORM_ACTIVATIONS["relu"], 0.0)
    network = tree_map(lambda leaf: leaf[0], initial_networks((4, 60, 1), 0, 1, F64))
    with pytest.raises(ValueError, match=r"singular.*add a ridge above 0"):
        best_response(objective, network, *data().of(0))


def test_the_limit_arm_takes_steps_of_the_reduced_objective():
    chosen, seen = learning(("limit",)), data()
    *_, last = run(chosen, seen, 12)
    for seed in range(SEEDS):
        body = tree_map(
            lambda leaf, seed=seed: leaf[seed], initial_networks((4, 6, 1), 0, SEEDS, F64).body
        )
        for step in range(12):
            x, y = seen.of(seed, 25)
            head = ridge_response(features(body, x, CLOSED_FORM_ACTIVATIONS["tanh"]), y, 0.01)
            inputs, target = batch_of(seen, KEY, torch.tensor(step), BATCH, 1)
            slopes = gradients(
                chosen.objective, Parameters(body, head, {}), inputs[seed], target[seed]
            )
            body = tree_map(lambda leaf, slope: leaf - 0.01 * slope, body, slopes.body)
        for leaf, expected in zip(tree_leaves(last.state.given.parameters.body), tree_leaves(body)):
            assert (leaf[seed] - expected).abs().max() < 1e-12


def test_the_limits_head_holds_still_between_two_answers():
    chosen, seen = learning(every=7), data()
    heads = [
        arm_parameters(chosen, each.state, "limit").head
        for each in run(chosen, seen, 15, measure_every=1)
    ]
    same = [torch.equal(one, other) for one, other in pairwise(heads)]
    # Update k answers first where 7 divides k.
    assert [step for step, still in enumerate(same) if not still] == [0, 7, 14]


def test_an_answer_leaves_the_other_arms_and_lost_runs_alone():
    chosen, seen = learning(("split", "limit", "body-rate")), data()
    state = initial_supervised_state(chosen, initial_networks((4, 6, 1), 0, SEEDS, F64))
    after, residual = answered(chosen, seen, state, torch.tensor([False, True, False]))
    moved = (after.given.parameters.head != state.given.parameters.head).any(-1).any(-1)
    assert moved.tolist() == [False] * 3 + [True, False, True] + [False] * 3
    assert residual.shape == (3,)
    assert float(residual[1]) == 0
    assert bool((residual[[0, 2]] > 0).all() & (residual < 1e-10).all())
    assert after.given.parameters.body is state.given.parameters.body


@pytest.mark.parametrize("every", [1, 4])
def test_a_resumed_population_equals_one_that_never_stopped_to_the_bit(every):
    arms = ("split", "limit", "automatic-momentum")
    chosen, seen = learning(arms, CROSS_ENTROPY, every=every), data(labels=True)
    whole = run(chosen, seen, 30)
    halt = whole[1]
    rest = run(chosen, seen, 30, state=halt.state, start=halt.step, diverged=halt.diverged)
    assert [each.step for each in rest] == [20, 30]
    pairs = zip(tree_leaves(whole[-1].state), tree_leaves(rest[-1].state), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_diverging_arm_is_told_from_the_others_for_good():
    chosen = learning(("split", "head-rate"), rates=Rates(0.01, 1e9))
    seen = run(chosen, data(), 20)
    assert not bool(seen[0].diverged.any())
    assert bool(seen[-1].diverged[1].all())
    lost = torch.tensor([[False] * 3, [True, False, False]])
    again = run(learning(("split", "body-rate")), data(), 10, diverged=lost)
    assert torch.equal(again[-1].diverged, lost)
