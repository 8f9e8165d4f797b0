"""More than two groups: ratios, weight decay, layers and named groups."""

import copy

import pytest
import torch
from torch import nn

from neural_tdc.split_rates import (
    effective_rates,
    named_groups,
    parameter_groups,
)
from tests.neural_tdc.split_rates.split_networks import (
    BODY_RATE,
    HEAD_RATE,
    Pretrained,
    Tied,
    groups_of,
    names_in,
    network,
)


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
