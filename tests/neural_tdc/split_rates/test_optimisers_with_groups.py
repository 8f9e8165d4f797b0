"""Parameter groups under every optimiser of torch.optim."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from neural_tdc.split_rates import (
    check_groups,
    effective_rates,
    last_linear,
    parameter_groups,
)
from tests.neural_tdc.split_rates.split_networks import (
    BODY_RATE,
    HEAD_RATE,
    groups_of,
    network,
)


def train(module: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int = 3) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        loss = module(torch.randn(6, 5, dtype=torch.float64)).square().mean()
        module.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


# Every optimiser of torch.optim that takes groups and dense gradients of any shape. LBFGS takes no
# groups and SparseAdam no dense gradients; Muon takes matrices only, so its network has no biases.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "ASGD": {},
    "RMSprop": {},
    "Adam": {},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Adagrad": {},
    "Adadelta": {},
    "Adafactor": {},
    "Rprop": {},
    "Muon": {},
}


def test_the_table_of_optimizers_is_complete():
    known = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert known - set(OPTIMIZERS) <= {"Optimizer", "LBFGS", "SparseAdam"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_optimizer_with_groups_equals_one_optimizer_for_each_part(name: str):
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    together = network(bias=name != "Muon")
    apart = copy.deepcopy(together)
    untouched = copy.deepcopy(together)
    make = getattr(torch.optim, name)
    optimizer = make(parameter_groups(together, body_lr=BODY_RATE, head_lr=HEAD_RATE),
                     **OPTIMIZERS[name])  # fmt: skip
    train(together, [optimizer])
    train(
        apart,
        [
            make(
                [*apart[0].parameters(), *apart[2].parameters()], lr=BODY_RATE, **OPTIMIZERS[name]
            ),
            make(apart[4].parameters(), lr=HEAD_RATE, **OPTIMIZERS[name]),
        ],
    )
    for ours, theirs, start in zip(
        together.parameters(), apart.parameters(), untouched.parameters()
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
        assert not torch.equal(ours, start)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Muon"])
def test_a_frozen_body_leaves_an_empty_group_that_optimizers_accept(name: str):
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    module = network()
    module[0].requires_grad_(False)
    module[2].requires_grad_(False)
    before = copy.deepcopy(module)
    body, head = groups_of(module)
    optimizer = getattr(torch.optim, name)([body, head])
    train(module, [optimizer])
    assert body["params"] == []
    assert body["frozen"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert torch.equal(module[2].weight, before[2].weight)
    assert not torch.equal(module[4].weight, before[4].weight)
    assert set(effective_rates(optimizer)) == {"body", "head"}


def test_plain_descent_moves_body_and_head_each_at_its_own_rate():
    module = network()
    before = copy.deepcopy(module)
    optimizer = torch.optim.SGD(groups_of(module))
    train(module, [optimizer], steps=1)
    for index, rate in ((0, BODY_RATE), (2, BODY_RATE), (4, HEAD_RATE)):
        expected = before[index].weight - rate * module[index].weight.grad
        torch.testing.assert_close(module[index].weight, expected, rtol=0, atol=1e-15)


@pytest.mark.slow
def test_a_compiled_module_trains_as_the_plain_one():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    inputs = torch.randn(6, 5, dtype=torch.float64)
    assert last_linear(compiled)[0] == "2"
    begun = copy.deepcopy(plain)
    for module, head in ((plain, None), (compiled, "2")):
        groups = parameter_groups(module, body_lr=0.003, head_lr=0.02, head=head)
        optimizer = torch.optim.RMSprop(groups)
        for _ in range(3):
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            optimizer.step()
        check_groups(module, optimizer.param_groups)
        assert effective_rates(optimizer) == {"body": 0.003, "head": 0.02}
    pairs = zip(plain.parameters(), compiled.parameters(), begun.parameters(), strict=True)
    for ours, theirs, before in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
        assert not torch.equal(ours, before)
