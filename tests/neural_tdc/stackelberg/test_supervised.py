"""A population of arms × seeds against one run at a time with `torch.optim`."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.projections import project_on_ball, projection
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    NetworkObjective,
    initial_networks,
)
from neural_tdc.randomness import generator, keys
from neural_tdc.split_rates import effective_rates, parameter_groups
from neural_tdc.stackelberg.barzilai_borwein_population import PerPart
from neural_tdc.stackelberg.supervised import (
    Learning,
    Rates,
    Samples,
    arm_parameters,
    arm_rates,
    batch_of,
    given_rates,
    initial_supervised_state,
    supervised_updates,
)

F64 = torch.float64
SEEDS, SIZE, BATCH, STEPS = 3, 40, 8, 100
RATES = Rates(0.001, 0.01, low=0.01, high=0.5)
RMSPROP, ADAM, SGD = (part_optimizers(name) for name in ("rmsprop", "adam", "sgd"))
UNIFORM = {"split": (0.001, 0.01), "body-rate": (0.001, 0.001), "head-rate": (0.01, 0.01)}


def samples(loss, outputs, inputs=4):
    """Return samples of every seed's own, end to end."""
    source = generator(0, "samples", outputs)
    x = torch.randn(SEEDS * SIZE, inputs, generator=source, dtype=F64)
    if loss is CROSS_ENTROPY:
        y = torch.randint(outputs, (SEEDS * SIZE,), generator=source)
    else:
        y = torch.randn(SEEDS * SIZE, outputs, generator=source, dtype=F64)
    return Samples(x, y, torch.arange(SEEDS) * SIZE, SIZE)


def learning(loss=SQUARED, arms=tuple(UNIFORM), optimizers=RMSPROP, **changed):
    usual = {"schedule": schedule("constant"), "project": projection("none")} | changed
    return Learning(
        NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS["relu"], 0.01),
        arms,
        RATES,
        BATCH,
        optimizers,
        **usual,
    )


def trained(chosen, sizes, data, steps=STEPS, compiled=False):
    state = initial_supervised_state(chosen, initial_networks(sizes, 0, SEEDS, F64))
    advance = supervised_updates(chosen, data, keys(0, SEEDS, "batch"), state, compiled=compiled)
    state, update = advance(state, torch.tensor(0), steps)
    assert int(update) == steps
    return state


def module_of(network):
    """Return a stock module with the parameters of one network."""
    layers = []
    for layer in network.body:
        layers += [nn.Linear(*layer.weight.shape), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(*network.head.shape, bias=False)).double()
    weights = [tensor for layer in network.body for tensor in (layer.weight.T, layer.bias)]
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), [*weights, network.head.T], strict=True):
            parameter.copy_(value)
    return module


def alone(seed, sizes, loss, data, make, after=lambda step: None):
    """Train one run with a stock module and optimiser on the batches of its seed."""
    module = module_of(tree_map(lambda leaf: leaf[seed], initial_networks(sizes, 0, SEEDS, F64)))
    optimizer = make(module)
    criterion = nn.MSELoss() if loss is SQUARED else nn.CrossEntropyLoss()
    for step in range(STEPS):
        x, y = batch_of(data, keys(0, SEEDS, "batch"), torch.tensor(step), BATCH, 1)
        fit = criterion(module(x[seed]), y[seed])
        if loss is SQUARED:
            fit = fit * sizes[-1] / 2
        optimizer.zero_grad()
        (fit + 0.01 / 2 * module[-1].weight.square().sum()).backward()
        optimizer.step()
        after(module)
    return module


def assert_same(module, network, tolerance):
    expected = [tensor for layer in network.body for tensor in (layer.weight.T, layer.bias)]
    for parameter, value in zip(module.parameters(), [*expected, network.head.T], strict=True):
        assert (parameter - value).abs().max() < tolerance


@pytest.mark.parametrize(
    ("loss", "sizes", "optimizers", "stock"),
    [
        (SQUARED, (4, 16, 1), RMSPROP, torch.optim.RMSprop),
        (CROSS_ENTROPY, (4, 12, 7, 5), RMSPROP, torch.optim.RMSprop),
        (SQUARED, (4, 16, 1), ADAM, torch.optim.Adam),
    ],
    ids=["rmsprop, two", "rmsprop, three", "adam, two"],
)
def test_the_population_equals_one_run_at_a_time_of_torch_after_100_steps(
    loss, sizes, optimizers, stock
):
    data = samples(loss, sizes[-1])
    state = trained(learning(loss, optimizers=optimizers), sizes, data)
    for arm, (body_lr, head_lr) in UNIFORM.items():
        population = arm_parameters(learning(loss), state, arm)
        for seed in range(SEEDS):

            def make(module, body_lr=body_lr, head_lr=head_lr):
                groups = parameter_groups(module, body_lr=body_lr, head_lr=head_lr)
                optimizer = stock(groups)
                assert effective_rates(optimizer) == {"body": body_lr, "head": head_lr}
                return optimizer

            module = alone(seed, sizes, loss, data, make)
            assert_same(module, tree_map(lambda leaf, seed=seed: leaf[seed], population), 1e-10)


def test_sgd_with_diminishing_steps_and_projections_equals_the_update_written_out():
    chosen = learning(
        optimizers=SGD,
        schedule=schedule("general"),
        project=projection("ball:1.2"),
        arms=("split",),
    )
    data, sizes, steps = samples(SQUARED, 1), (4, 6, 1), 30
    state = trained(chosen, sizes, data, steps)
    for seed in range(SEEDS):
        module = module_of(
            tree_map(lambda leaf, seed=seed: leaf[seed], initial_networks(sizes, 0, SEEDS, F64))
        )
        *body, head = module.parameters()
        for step in range(steps):
            x, y = batch_of(data, keys(0, SEEDS, "batch"), torch.tensor(step), BATCH, 1)
            fit = (module(x[seed]) - y[seed]).square().mean() / 2
            slopes = torch.autograd.grad(fit + 0.005 * head.square().sum(), [*body, head])
            with torch.no_grad():
                for parameter, slope in zip(body, slopes):
                    parameter -= 0.001 * (step + 1) ** -0.6 * slope
                head -= 0.01 * (step + 1) ** -0.4 * slopes[-1]
                for part in (body, [head]):
                    for parameter, inside in zip(part, project_on_ball(list(part), 1.2)):
                        parameter.copy_(inside)
        assert_same(module, tree_map(lambda leaf, seed=seed: leaf[seed], state.given[0]), 1e-12)
        # The set is not empty talk: every body begins outside it.
        body = initial_networks(sizes, 0, SEEDS, F64).body
        assert sum(leaf[seed].square().sum() for leaf in tree_leaves(body)).sqrt() > 1.2


def test_all_arms_start_alike_and_see_the_same_batches_each_seed_its_own():
    arms = ("split", "limit", "automatic-sgd", "automatic-sign")
    chosen = learning(arms=arms)
    networks = initial_networks((4, 6, 1), 0, SEEDS, F64)
    state = initial_supervised_state(chosen, networks)
    for arm in arms:
        for leaf, expected in zip(
            tree_leaves(arm_parameters(chosen, state, arm)), tree_leaves(networks)
        ):
            assert torch.equal(leaf, expected)
    data = samples(SQUARED, 1)
    x, y = batch_of(data, keys(0, SEEDS, "batch"), torch.tensor(5), BATCH, 2)
    assert x.shape == (2 * SEEDS, BATCH, 4)
    assert torch.equal(x[:SEEDS], x[SEEDS:])
    assert torch.equal(y[:SEEDS], y[SEEDS:])
    for seed in range(SEEDS):
        own = data.inputs[seed * SIZE : (seed + 1) * SIZE]
        assert all(any(torch.equal(row, candidate) for candidate in own) for row in x[seed])


def test_a_run_does_not_depend_on_the_arms_and_seeds_beside_it():
    data = samples(SQUARED, 1)
    together = trained(learning(arms=("head-rate", "automatic-sgd", "split")), (4, 6, 1), data, 20)
    single = learning(arms=("split",))
    split = trained(single, (4, 6, 1), data, 20)
    found = arm_parameters(
        learning(arms=("head-rate", "automatic-sgd", "split")), together, "split"
    )
    for one, other in zip(tree_leaves(found), tree_leaves(split.given.parameters)):
        assert (one - other).abs().max() < 1e-14


def test_base_rates_are_split_uniform_and_none_for_a_head_that_answers():
    chosen = learning(arms=("limit", "split", "automatic-sgd", "head-rate"))
    rates = given_rates(chosen, torch.zeros(2, 5, 1, dtype=F64))
    assert rates.body.tolist() == [0.001, 0.001, 0.001, 0.001, 0.01, 0.01]
    assert rates.head.tolist() == [0.0, 0.0, 0.01, 0.01, 0.01, 0.01]


def test_effective_rates_follow_the_schedule_and_keep_the_split():
    chosen = learning(arms=("split", "limit"), schedule=schedule("strongly-convex"))
    state = initial_supervised_state(chosen, initial_networks((4, 6, 1), 0, SEEDS, F64))
    rates = arm_rates(chosen, state, "split", 7)
    assert rates.body.tolist() == pytest.approx([0.001 / 8] * SEEDS)
    assert rates.head.tolist() == pytest.approx([0.01 / 4] * SEEDS)
    answering = arm_rates(chosen, state, "limit", 7)
    assert bool(answering.head.isnan().all())
    assert answering.body.tolist() == rates.body.tolist()


def test_an_automatic_arm_reports_the_rates_it_chose():
    chosen = learning(arms=("automatic-momentum", "automatic-sgd"))
    state = trained(chosen, (4, 6, 1), samples(SQUARED, 1), 10)
    rates = arm_rates(chosen, state, "automatic-sgd", 9)
    assert isinstance(rates, PerPart)
    assert torch.equal(rates.body, state.automatic.rates.body[SEEDS:])
    assert bool(((rates.head >= 0.01) & (rates.head <= 0.5)).all())


@pytest.mark.slow
def test_the_compiled_update_equals_the_eager_one():
    chosen, data = learning(arms=("split", "head-rate")), samples(SQUARED, 1)
    eager, compiled = (trained(chosen, (4, 7, 1), data, 6, each) for each in (False, True))
    for one, other in zip(tree_leaves(eager), tree_leaves(compiled), strict=True):
        assert (one - other).abs().max() < 1e-10


@pytest.mark.parametrize("loss", [SQUARED, CROSS_ENTROPY], ids=["squared", "cross-entropy"])
def test_an_update_stays_on_one_device_and_waits_for_nothing(one_device, loss):
    chosen = learning(loss, arms=("split", "limit", "automatic-sign", "automatic-momentum"))
    state = initial_supervised_state(chosen, initial_networks((4, 6, 5), 0, SEEDS, F64))
    state, key = (tree_map(lambda x: x.to("meta"), each) for each in (state, keys(0, SEEDS)))
    data = Samples(*(part.to("meta") for part in samples(loss, 5)[:3]), SIZE)
    advance = supervised_updates(chosen, data, key, state, compiled=False)
    first = torch.tensor(0, device="meta")
    with one_device:
        after, _ = advance(state, first, 2)
    pairs = zip(tree_leaves(after), tree_leaves(state), strict=True)
    assert all(one.shape == other.shape for one, other in pairs)
