"""Parameter groups with a learning rate each in one stock optimiser."""

import pytest
from torch import nn

from neural_tdc.split_rates import (
    check_groups,
    last_linear,
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
    with pytest.raises(ValueError, match="a Linear, is not a submodule of Sequential"):
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
    with pytest.raises(ValueError, match=r"parameter 4\.bias is in the groups twice.*'head'"):
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
