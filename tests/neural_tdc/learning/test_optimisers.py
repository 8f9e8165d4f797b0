"""RMSProp is PyTorch's to the last bits, part by part; what is not asked for is not touched."""

import pytest
import torch

from neural_tdc.learning.optimisers import SGD, Optimizer, initial_second_moment, precondition
from neural_tdc.types import Parameters

STEPS = 50
RATES = Parameters(body=0.03, head=0.007, auxiliary=0.2)
NONE, ALL = ("sgd", "sgd", "sgd"), ("rmsprop", "rmsprop", "rmsprop")


def draw(*shape, generator):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn(generator):
    return Parameters(
        {"w": draw(5, 3, generator=generator), "b": draw(4, generator=generator)},
        draw(6, generator=generator),
        draw(2, generator=generator),
    )


def leaves(part):
    return list(part.values()) if isinstance(part, dict) else [part]


@pytest.mark.parametrize(
    "names",
    [ALL, ("rmsprop", "sgd", "sgd"), ("sgd", "rmsprop", "sgd"), ("sgd", "sgd", "rmsprop"), NONE],
    ids="-".join,
)
def test_every_part_takes_the_steps_of_its_torch_optimizer(names):
    g = torch.Generator().manual_seed(0)
    optimizer = Optimizer(*names, decay=0.95, eps=1e-6)
    parameters = drawn(g)
    references, stock = [], []
    for name, part, rate in zip(names, parameters, RATES):
        reference = [torch.nn.Parameter(leaf.clone()) for leaf in leaves(part)]
        references.append(reference)
        stock.append(
            torch.optim.RMSprop(reference, lr=rate, alpha=0.95, eps=1e-6)
            if name == "rmsprop"
            else torch.optim.SGD(reference, lr=rate)
        )
    second_moment = initial_second_moment(optimizer, parameters)
    for _ in range(STEPS):
        directions = drawn(g)
        for reference, torch_optimizer, part in zip(references, stock, directions):
            for leaf, direction in zip(reference, leaves(part)):
                leaf.grad = direction.clone()
            torch_optimizer.step()
        steps, second_moment = precondition(optimizer, directions, second_moment)
        body = {
            name: leaf - RATES.body * steps.body[name] for name, leaf in parameters.body.items()
        }
        parameters = Parameters(
            body,
            parameters.head - RATES.head * steps.head,
            parameters.auxiliary - RATES.auxiliary * steps.auxiliary,
        )
    for reference, part in zip(references, parameters):
        for leaf, mine in zip(reference, leaves(part)):
            assert (leaf.detach() - mine).abs().max() < 1e-12


def test_the_defaults_are_those_of_torch():
    stock = torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(1))]).defaults
    assert (SGD.decay, SGD.eps) == (stock["alpha"], stock["eps"])


def test_the_first_step_has_the_size_that_is_worked_out_by_hand():
    # v = 0.01·g², so that g/(√v + ε) is 10 for every size of g: the split would be lost if the
    # same optimiser served all parts, and is not where a part keeps plain steps.
    directions = Parameters({"w": torch.tensor([[3.0]])}, torch.tensor([-0.5]), torch.zeros(0))
    optimizer = Optimizer(body="rmsprop", eps=0.0)
    steps, _ = precondition(optimizer, directions, initial_second_moment(optimizer, directions))
    assert float(steps.body["w"]) == pytest.approx(10, rel=1e-5)
    assert float(steps.head) == -0.5


def test_plain_parts_keep_their_very_tensors_and_no_memory():
    directions = drawn(torch.Generator().manual_seed(1))
    second_moment = initial_second_moment(SGD, directions)
    assert second_moment == ({}, {}, {})
    steps, kept = precondition(SGD, directions, second_moment)
    assert kept == ({}, {}, {})
    assert steps.head is directions.head
    assert steps.auxiliary is directions.auxiliary
    assert steps.body is directions.body


def test_a_rule_without_an_auxiliary_vector_can_be_preconditioned():
    directions = Parameters({}, torch.ones(3), {})
    optimizer = Optimizer(*ALL)
    steps, second_moment = precondition(
        optimizer, directions, initial_second_moment(optimizer, directions)
    )
    assert steps.body == second_moment.body == steps.auxiliary == second_moment.auxiliary == {}
