"""Automatic rates of a population against `AutomaticRate`, one run at a time."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    SQUARED,
    NetworkObjective,
    initial_networks,
    objective_value,
)
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.barzilai_borwein import AutomaticRate, SignSGD
from neural_tdc.stackelberg.barzilai_borwein_population import (
    AutomaticRule,
    PerPart,
    automatic_state,
    automatic_update,
)

OBJECTIVE = NetworkObjective(SQUARED, CLOSED_FORM_ACTIVATIONS["tanh"], 0.05)
RUNS, STEPS, BATCH = 3, 12, 7
# Numbers that float32 holds exactly, since `AutomaticRate` rounds its factor to it.
LOW, HIGH = 2**-6, 0.5


def batches():
    source = generator(0, "batches")
    inputs = torch.randn(STEPS, RUNS, BATCH, 4, generator=source, dtype=torch.float64)
    return inputs, torch.randn(STEPS, RUNS, BATCH, 2, generator=source, dtype=torch.float64)


def alone(run, kind, make):
    """Train one run with `AutomaticRate`; return its parameters, rates and norms."""
    network = tree_map(
        lambda leaf: leaf[run].clone().requires_grad_(),
        initial_networks((4, 6, 2), 0, RUNS, torch.float64),
    )
    body, head = tree_leaves(network.body), [network.head]
    groups = [{"params": body, "lr": 2**-5, "label": "body"}]
    groups += [{"params": head, "lr": 0.25, "label": "head"}]
    optimizer = AutomaticRate(make(groups), low=LOW, high=HIGH, kind=kind)
    inputs, target = batches()
    for step in range(STEPS):

        def closure(step=step):
            optimizer.zero_grad()
            value = objective_value(OBJECTIVE, network, inputs[step, run], target[step, run])
            value.backward()
            return value

        optimizer.step(closure)
    return [leaf.detach() for leaf in (*body, *head)], optimizer.rates(), optimizer.gradient_norms()


MAKERS = (
    (0.0, False, lambda groups: torch.optim.SGD(groups)),
    (0.75, False, lambda groups: torch.optim.SGD(groups, momentum=0.75)),
    (0.0, True, SignSGD),
)


@pytest.mark.parametrize("kind", ["long", "short"])
def test_a_population_of_three_kinds_equals_each_run_alone(kind):
    networks = initial_networks((4, 6, 2), 0, RUNS, torch.float64)
    first = PerPart(*(torch.full((RUNS,), rate, dtype=torch.float64) for rate in (2**-5, 0.25)))
    momentum = torch.tensor([kept for kept, _, _ in MAKERS], dtype=torch.float64)
    sign = torch.tensor([taken for _, taken, _ in MAKERS])
    rule = AutomaticRule(momentum, sign, first, LOW, HIGH, kind)
    state = automatic_state(networks, first)
    for step, (inputs, target) in enumerate(zip(*batches())):
        state = automatic_update(OBJECTIVE, rule, state, inputs, target, torch.tensor(step))
    chosen = []
    for run, (_, _, make) in enumerate(MAKERS):
        parameters, rates, norms = alone(run, kind, make)
        for leaf, expected in zip(tree_leaves(state.parameters), parameters):
            assert (leaf[run] - expected).abs().max() < 1e-10
        for part in ("body", "head"):
            assert getattr(state.rates, part)[run].item() == pytest.approx(rates[part], rel=1e-8)
            assert getattr(state.norms, part)[run].item() == pytest.approx(norms[part], rel=1e-8)
            chosen.append(rates[part])
    # Not all at an end of the range: the secants do decide.
    assert len(set(chosen)) > 3


def test_the_first_update_takes_the_given_rates():
    networks = initial_networks((4, 6, 2), 0, RUNS, torch.float64)
    first = PerPart(*(torch.full((RUNS,), rate, dtype=torch.float64) for rate in (2**-5, 0.25)))
    none = torch.zeros(RUNS, dtype=torch.float64)
    rule = AutomaticRule(none, none > 0, first, LOW, HIGH, "long")
    inputs, target = (part[0] for part in batches())
    before = automatic_state(networks, first)
    after = automatic_update(OBJECTIVE, rule, before, inputs, target, torch.tensor(0))
    assert after.rates.body.tolist() == [2**-5] * RUNS
    assert after.rates.head.tolist() == [0.25] * RUNS
    assert bool(after.steps.body.isnan().all())
    assert torch.equal(after.before.head, networks.head)
