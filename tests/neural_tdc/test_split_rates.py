"""Two learning rates in one stock optimiser."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neural_tdc.split_rates import (
    check_groups,
    effective_rates,
    last_linear,
    parameter_groups,
    scale,
)

BODY_RATE, HEAD_RATE = 0.003, 0.02


class Pretrained(nn.Module):
    """A body from elsewhere (convolution, normalisation, attention) under a fresh linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 4, kernel_size=2)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, num_heads=2, batch_first=True)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, observation: Tensor) -> Tensor:
        tokens = self.norm(self.stem(observation).transpose(1, 2))
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.head(torch.tanh(self.hidden(mixed.mean(1))))


class Tied(nn.Module):
    """An output layer tied to the embedding, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.mixing = nn.Linear(3, 3)
        self.readout = nn.Linear(3, 7)
        self.readout.weight = self.embedding.weight

    def forward(self, token: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.mixing(self.embedding(token))))


def network(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4, bias=bias), nn.Tanh(), nn.Linear(4, 3, bias=bias), nn.Tanh(),
        nn.Linear(3, 2, bias=bias),
    ).double()  # fmt: skip


def names_in(module: nn.Module, group: dict[str, Any]) -> set[str]:
    members = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in module.named_parameters() if id(parameter) in members}


def groups_of(module: nn.Module, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    body, head = parameter_groups(module, body_lr=BODY_RATE, head_lr=HEAD_RATE, **options)
    return body, head


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


def test_the_last_linear_layer_is_found_in_the_order_of_registration():
    assert last_linear(network())[0] == "4"
    name, layer = last_linear(Pretrained())
    assert name == "head"
    assert layer.out_features == 2


def test_the_projection_inside_attention_is_not_taken_for_a_head():
    attention_last = nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 2))
    assert last_linear(attention_last)[0] == "0"
    with pytest.raises(ValueError, match=r"no nn\.Linear layer"):
        last_linear(nn.Sequential(nn.Conv1d(2, 2, 1), nn.MultiheadAttention(4, 2)))


def test_a_pretrained_body_and_its_head_are_told_apart():
    module = Pretrained()
    body, head = groups_of(module)
    assert names_in(module, head) == {"head.weight", "head.bias"}
    assert len(body["params"]) + len(head["params"]) == len(list(module.parameters()))
    assert [body["label"], head["label"]] == ["body", "head"]
    assert [body["lr"], body["base_lr"]] == [BODY_RATE, BODY_RATE]
    assert [head["lr"], head["base_lr"]] == [HEAD_RATE, HEAD_RATE]


def test_the_head_is_taken_by_name_or_by_itself():
    module = Pretrained()
    for head in ("hidden", module.hidden):
        _, group = groups_of(module, head=head)
        assert names_in(module, group) == {"hidden.weight", "hidden.bias"}
    _, group = groups_of(module, head="norm")
    assert names_in(module, group) == {"norm.weight", "norm.bias"}


def test_a_head_name_that_does_not_exist_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"no submodule 'haed'.*'head'"):
        groups_of(Pretrained(), head="haed")
    with pytest.raises(ValueError, match="no submodule ''"):
        groups_of(Pretrained(), head="")
    with pytest.raises(ValueError, match=r"'zzz'.*nearest: '2', '3', '4'"):
        groups_of(network(), head="zzz")


def test_a_head_that_is_not_part_of_the_module_is_refused():
    with pytest.raises(ValueError, match="a Linear, is no submodule of Sequential"):
        groups_of(network(), head=nn.Linear(3, 2))


def test_a_module_without_a_linear_layer_a_body_or_a_head_with_parameters_is_refused():
    with pytest.raises(ValueError, match=r"no nn\.Linear layer"):
        groups_of(nn.Sequential(nn.Conv1d(2, 3, 1), nn.ReLU()))
    with pytest.raises(ValueError, match="no body"):
        groups_of(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="head '1' has no parameters"):
        groups_of(network(), head="1")


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf"), True])
def test_a_rate_that_is_not_finite_and_above_zero_is_refused(rate: float):
    with pytest.raises(ValueError, match="body_lr must be a finite number above 0"):
        parameter_groups(network(), body_lr=rate, head_lr=0.1)
    with pytest.raises(ValueError, match="head_lr must be a finite number above 0"):
        parameter_groups(network(), body_lr=0.1, head_lr=rate)


def test_a_parameter_tied_across_the_split_is_refused_by_its_names():
    with pytest.raises(ValueError, match=r"embedding\.weight = readout\.weight .*tied"):
        groups_of(Tied())


def test_a_tied_parameter_learns_in_the_group_that_was_named():
    module = Tied()
    body, head = groups_of(module, tied="body")
    assert names_in(module, body) == {"embedding.weight", "mixing.weight", "mixing.bias"}
    assert names_in(module, head) == {"readout.bias"}
    body, head = groups_of(module, tied="head")
    assert names_in(module, body) == {"mixing.weight", "mixing.bias"}
    assert names_in(module, head) == {"embedding.weight", "readout.bias"}


def test_a_parameter_tied_inside_the_body_stands_in_it_once():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    module[2].weight = module[0].weight
    body, _ = groups_of(module)
    assert len(body["params"]) == 3
    check_groups(module, groups_of(module))


def test_frozen_parameters_are_left_out_and_reported():
    module = Pretrained()
    module.stem.requires_grad_(False)
    module.head.bias.requires_grad_(False)
    body, head = groups_of(module)
    assert body["frozen"] == ["stem.weight", "stem.bias"]
    assert head["frozen"] == ["head.bias"]
    assert "stem.weight" not in names_in(module, body)
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter of Pretrained is frozen"):
        groups_of(module)


def test_a_parameter_in_no_group_or_in_two_is_refused_by_its_name():
    module = network()
    body, head = groups_of(module)
    with pytest.raises(ValueError, match=r"parameter 4\.weight is in no group"):
        check_groups(module, [body])
    with pytest.raises(ValueError, match=r"parameter 4\.bias stands twice .*'head'"):
        check_groups(module, [{**body, "params": [*body["params"], module[4].bias]}, head])


def test_a_layer_thawed_or_replaced_after_the_split_is_noticed():
    module = network()
    module[0].requires_grad_(False)
    groups = groups_of(module)
    check_groups(module, groups)
    module[0].requires_grad_(True)
    with pytest.raises(ValueError, match=r"parameter 0\.weight is in no group"):
        check_groups(module, groups)
    module = network()
    groups = groups_of(module)
    module[4] = nn.Linear(3, 6)
    with pytest.raises(ValueError, match=r"group 'head' holds a parameter of shape \(2, 3\)"):
        check_groups(module, groups)


def test_scaling_keeps_the_split_and_always_starts_from_the_base_rate():
    optimizer = torch.optim.Adam(groups_of(network()))
    scale(optimizer, 0.5)
    scale(optimizer, 0.25)
    assert effective_rates(optimizer) == {"body": BODY_RATE / 4, "head": HEAD_RATE / 4}
    scale(optimizer, 0)
    assert effective_rates(optimizer) == {"body": 0.0, "head": 0.0}
    scale(optimizer, 1)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_a_factor_that_is_negative_or_not_finite_is_refused(factor: float):
    optimizer = torch.optim.SGD(groups_of(network()))
    with pytest.raises(ValueError, match="factor of a schedule"):
        scale(optimizer, factor)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}


SCHEDULERS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda k: 1 / (k + 1)},
    "CosineAnnealingLR": {"T_max": 10},
    "StepLR": {"step_size": 5, "gamma": 0.1},
}


@pytest.mark.parametrize(
    ("name", "factor"), [("LambdaLR", 1 / 6), ("CosineAnnealingLR", 0.5), ("StepLR", 0.1)]
)
def test_the_ratio_survives_the_schedulers_of_torch(name: str, factor: float):
    module = network()
    optimizer = torch.optim.RMSprop(groups_of(module))
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    for _ in range(5):
        train(module, [optimizer], steps=1)
        scheduler.step()
    rates = effective_rates(optimizer)
    assert rates["body"] == pytest.approx(BODY_RATE * factor, rel=1e-12)
    assert rates["head"] == pytest.approx(HEAD_RATE * factor, rel=1e-12)


def test_rates_given_as_tensors_are_copied_and_scaled_in_place():
    rate = torch.tensor(0.01)
    body, head = parameter_groups(network(), body_lr=rate, head_lr=rate)
    assert isinstance(body["lr"], Tensor)
    assert body["lr"] is not head["lr"]
    optimizer = torch.optim.Adam([body, head])
    held = optimizer.param_groups[0]["lr"]
    scale(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.005)
    assert float(rate) == pytest.approx(0.01)


def test_labels_and_base_rates_survive_saving_and_loading(tmp_path):
    module = network()
    optimizer = torch.optim.RMSprop(groups_of(module))
    train(module, [optimizer])
    scale(optimizer, 0.5)
    torch.save(optimizer.state_dict(), tmp_path / "checkpoint.pt")
    restored = torch.optim.RMSprop(parameter_groups(network(), body_lr=1.0, head_lr=1.0))
    restored.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert effective_rates(restored) == {"body": BODY_RATE / 2, "head": HEAD_RATE / 2}
    scale(restored, 1)
    assert effective_rates(restored) == {"body": BODY_RATE, "head": HEAD_RATE}


def test_groups_without_labels_or_with_two_rates_for_one_label_are_refused():
    module = network()
    with pytest.raises(ValueError, match="group 0 has no label"):
        effective_rates(torch.optim.SGD(module.parameters()))
    with pytest.raises(ValueError, match="group 0 has no base_lr"):
        scale(torch.optim.SGD(module.parameters()), 0.5)
    optimizer = torch.optim.SGD(groups_of(module))
    optimizer.param_groups[1]["label"] = "body"
    with pytest.raises(ValueError, match=r"labelled 'body' learn at 0\.003 and 0\.02"):
        effective_rates(optimizer)


COMPILED = """
import copy
import torch
from torch import nn
from neural_tdc.split_rates import check_groups, effective_rates, last_linear, parameter_groups

torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
inputs = torch.randn(6, 5, dtype=torch.float64)
assert last_linear(compiled)[0] == "2"
for module, head in ((plain, None), (compiled, "2")):
    groups = parameter_groups(module, body_lr=0.003, head_lr=0.02, head=head)
    optimizer = torch.optim.RMSprop(groups)
    for _ in range(3):
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()
    check_groups(module, optimizer.param_groups)
    assert effective_rates(optimizer) == {"body": 0.003, "head": 0.02}
for ours, theirs in zip(plain.parameters(), compiled.parameters()):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
print("same")
"""


@pytest.mark.slow
def test_a_compiled_module_trains_as_the_plain_one():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr
