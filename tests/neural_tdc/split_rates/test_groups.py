"""Parameter groups with a learning rate each in one stock optimiser."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neural_tdc.split_rates import (
    check_groups,
    effective_rates,
    last_linear,
    named_groups,
    parameter_groups,
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


def groups_of(module: nn.Module, **options: Any) -> list[dict[str, Any]]:
    return parameter_groups(module, body_lr=BODY_RATE, head_lr=HEAD_RATE, **options)


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


def test_one_rate_and_a_ratio_say_the_same_as_two_rates():
    body, head = parameter_groups(network(), lr=0.003, ratio=10)
    assert [body["lr"], head["lr"]] == [0.003, 0.03]
    assert [body["name"], head["name"]] == ["body", "head"]
    for wrong in ({}, {"lr": 0.1}, {"ratio": 2}, {"body_lr": 0.1}, {"body_lr": 0.1, "ratio": 2}):
        with pytest.raises(ValueError, match="give either body_lr and head_lr, or lr"):
            parameter_groups(network(), **wrong)
    with pytest.raises(ValueError, match="ratio must be a finite number above 0"):
        parameter_groups(network(), lr=0.1, ratio=-2.0)


def test_biases_and_normalisations_get_groups_without_weight_decay():
    module = Pretrained()
    groups = groups_of(module, weight_decay=0.01)
    assert [group["name"] for group in groups] == [
        "body", "body/no_decay", "head", "head/no_decay",
    ]  # fmt: skip
    assert [group["label"] for group in groups] == ["body", "body", "head", "head"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0, 0.01, 0.0]
    undecayed = names_in(module, groups[1]) | names_in(module, groups[3])
    assert undecayed == {
        "stem.bias", "norm.weight", "norm.bias", "attention.in_proj_bias",
        "attention.out_proj.bias", "hidden.bias", "head.bias",
    }  # fmt: skip
    optimizer = torch.optim.AdamW(groups)
    assert effective_rates(optimizer) == {"body": BODY_RATE, "head": HEAD_RATE}
    with pytest.raises(ValueError, match=r"weight_decay must be .* got -0\.1"):
        groups_of(module, weight_decay=-0.1)


def test_only_matrices_decay_where_the_gradient_is_zero():
    module = network()
    before = copy.deepcopy(module)
    optimizer = torch.optim.SGD(groups_of(module, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for index, rate in ((0, BODY_RATE), (2, BODY_RATE), (4, HEAD_RATE)):
        torch.testing.assert_close(module[index].weight, before[index].weight * (1 - rate / 2))
        assert torch.equal(module[index].bias, before[index].bias)


def test_layer_decay_slows_the_layers_towards_the_input():
    module = network()
    groups = groups_of(module, layer_decay=0.5)
    assert [(group["label"], group["lr"]) for group in groups] == [
        ("body.0", BODY_RATE / 2), ("body.1", BODY_RATE), ("head", HEAD_RATE),
    ]  # fmt: skip
    assert names_in(module, groups[0]) == {"0.weight", "0.bias"}
    with pytest.raises(ValueError, match=r"layer_decay must be at most 1, got 1\.5"):
        groups_of(module, layer_decay=1.5)
    with pytest.raises(ValueError, match="layers has no effect without layer_decay"):
        groups_of(module, layers=["0"])
    with pytest.raises(ValueError, match="at least two layers, Sequential shows 1"):
        groups_of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), layer_decay=0.9)


class Transformer(nn.Module):
    """Parameters of its own, blocks inside an encoder, a norm behind them: as a ViT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        self.patches = nn.Linear(2, 4)
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) for _ in range(2)
        )
        self.encoder.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def test_the_layers_of_a_transformer_are_its_blocks():
    module = Transformer()
    first, second, third, head = groups_of(module, layer_decay=0.8)
    assert names_in(module, first) == {"position", "patches.weight", "patches.bias"}
    assert all(name.startswith("encoder.blocks.0.") for name in names_in(module, second))
    assert {name for name in names_in(module, third) if "blocks.1" not in name} == {
        "encoder.norm.weight", "encoder.norm.bias",
    }  # fmt: skip
    assert names_in(module, head) == {"head.weight", "head.bias"}
    assert [first["lr"], second["lr"], third["lr"]] == pytest.approx(
        [BODY_RATE * 0.64, BODY_RATE * 0.8, BODY_RATE]
    )
    first, second, _ = groups_of(module, layer_decay=0.1, layers=["patches", "encoder"])
    assert names_in(module, first) == {"position", "patches.weight", "patches.bias"}
    assert first["lr"] == pytest.approx(BODY_RATE / 10)
    assert all(name.startswith("encoder.") for name in names_in(module, second))


def test_a_parameter_tied_inside_a_body_with_layer_decay_learns_at_the_slower_rate():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    module[2].weight = module[0].weight
    first, second, _ = groups_of(module, layer_decay=0.5)
    assert [len(first["params"]), len(second["params"])] == [2, 1]


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(2))
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.policy = nn.Linear(3, 2)
        self.value = nn.Linear(3, 1)


def test_any_number_of_groups_by_the_names_of_submodules_and_parameters():
    module = ActorCritic()
    rates = {"encoder": 1e-4, "policy": 1e-3, "value": 3e-3, "log_std": 1e-2}
    groups = named_groups(module, rates)
    assert {group["label"]: group["lr"] for group in groups} == rates
    assert names_in(module, groups[3]) == {"log_std"}
    assert names_in(module, groups[1]) == {"policy.weight", "policy.bias"}
    assert effective_rates(torch.optim.Adam(groups)) == rates


def test_groups_of_several_members_an_inner_one_and_a_rest():
    module = ActorCritic()
    heads, inner, slow = named_groups(
        module,
        {"heads": 1e-2, "inner": 1e-3, "slow": 1e-4},
        members={"heads": ["policy", "value"], "inner": ["encoder.2"], "slow": ["encoder"]},
        rest="slow",
    )
    assert names_in(module, heads) == {
        "policy.weight", "policy.bias", "value.weight", "value.bias",
    }  # fmt: skip
    assert names_in(module, inner) == {"encoder.2.weight", "encoder.2.bias"}
    assert names_in(module, slow) == {"log_std", "encoder.0.weight", "encoder.0.bias"}


def test_groups_that_leave_out_double_or_misname_are_refused():
    module = ActorCritic()
    with pytest.raises(ValueError, match=r"parameter log_std is in no group.*pass rest"):
        named_groups(module, {"encoder": 0.1, "policy": 0.1, "value": 0.1})
    with pytest.raises(ValueError, match="'a' and 'b' take the same Linear"):
        named_groups(
            module, {"a": 0.1, "b": 0.1}, members={"a": ["value"], "b": ["value"]}, rest="a"
        )
    with pytest.raises(ValueError, match=r"no submodule 'valeu' to be its group; nearest: 'value'"):
        named_groups(module, {"valeu": 0.1, "body": 0.1}, rest="body")
    with pytest.raises(ValueError, match="rest names 'body', which has no rate"):
        named_groups(module, {"value": 0.1}, rest="body")
    with pytest.raises(ValueError, match="members names 'heads', which has no rate"):
        named_groups(module, {"value": 0.1}, members={"heads": ["value"]})
    with pytest.raises(ValueError, match="the rate of 'value' must be a finite number above 0"):
        named_groups(module, {"value": 0})
    with pytest.raises(ValueError, match="rates names no group"):
        named_groups(module, {})
    with pytest.raises(ValueError, match=r"embedding\.weight = readout\.weight belongs to"):
        named_groups(Tied(), {"embedding": 0.1, "mixing": 0.1, "readout": 0.1})
    tied = named_groups(Tied(), {"embedding": 0.1, "mixing": 0.1, "readout": 0.1}, tied="embedding")
    assert [len(group["params"]) for group in tied] == [1, 2, 1]


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
