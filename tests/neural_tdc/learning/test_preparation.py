"""The state of a population before its first update."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from neural_tdc.learning.optimisers import SGD, part_optimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes

F64 = torch.float64
RUNS, SAMPLE, STATE, FEATURE = 3, 7, 4, 5


def observations(*shape, dtype=F64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(SAMPLE, *(shape or (STATE,)), generator=g, dtype=F64).to(dtype)


def body(shape):
    return mlp(shape, FEATURE, (6,))


def prepared(rule="tdc", runs=RUNS, seed=0, dtype=F64, **options):
    rule = RULES[rule] if isinstance(rule, str) else rule
    return prepare(rule, body, observations(dtype=dtype), runs=runs, seed=seed, **options)


def test_a_population_has_a_body_a_head_and_an_auxiliary_vector_a_run():
    _, state = prepared()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.parameters.body.items()}
    assert shapes == {
        "0.weight": (RUNS, 6, STATE),
        "0.bias": (RUNS, 6),
        "2.weight": (RUNS, FEATURE, 6),
        "2.bias": (RUNS, FEATURE),
    }
    assert state.parameters.head.tolist() == [[0.0] * FEATURE] * RUNS
    assert state.parameters.auxiliary["tdc"].tolist() == [[0.0] * FEATURE] * RUNS
    assert (tree_leaves(state.rule_state), state.optimizer_state) == ([], ({}, {}, {}))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_everything_has_the_dtype_of_the_observations(dtype):
    _, state = prepared("generalized", dtype=dtype, optimizers=part_optimizers("rmsprop"))
    assert {leaf.dtype for leaf in tree_leaves(state)} == {dtype}


def test_the_prescribed_head_is_every_runs_own():
    head = torch.arange(FEATURE)
    _, state = prepared(head=head)
    assert state.parameters.head.tolist() == [[0, 1, 2, 3, 4]] * RUNS
    assert state.parameters.head.dtype == F64


@pytest.mark.parametrize("rule", ["tdc", "generalized", "ttn", "etd", "semi_gradient+lstd"])
def test_what_is_drawn_for_a_run_does_not_depend_on_the_other_runs(rule):
    _, many = prepared(rule, runs=4, seed=2)
    _, few = prepared(rule, runs=2, seed=2)
    _, other = prepared(rule, runs=2, seed=3)
    for a, b in zip(tree_leaves(many), tree_leaves(few), strict=True):
        assert torch.equal(a[:2], b)
    assert not torch.equal(few.parameters.body["0.weight"], other.parameters.body["0.weight"])
    assert not torch.equal(few.parameters.body["0.weight"][0], few.parameters.body["0.weight"][1])


def test_every_run_has_a_psi_of_its_own():
    _, state = prepared("generalized")
    weight = state.rule_state.auxiliary["generalized"]["weight"]
    assert weight.shape == (RUNS, STATE, 4 * FEATURE)
    assert not torch.equal(weight[0], weight[1])


def test_the_features_are_the_modules():
    algorithm, state = prepared()
    one = {name: tensor[1] for name, tensor in state.parameters.body.items()}
    hidden = (observations() @ one["0.weight"].T + one["0.bias"]).tanh()
    expected = (hidden @ one["2.weight"].T + one["2.bias"]).tanh()
    assert torch.allclose(algorithm.features(one, observations()), expected, atol=1e-14)


def test_given_features_have_no_body_and_freeze_the_rules():
    algorithm, state = prepare(RULES["tdc"], None, observations(), runs=2, seed=0)
    assert algorithm.features is given_features
    assert not algorithm.rule.learns_body
    assert algorithm.rule.name == "tdc"
    assert state.parameters.body == {}
    assert state.parameters.head.shape == (2, STATE)


def test_nonlinear_rules_take_given_features_as_they_are():
    algorithm, state = prepare(RULES["nonlinear-tdc"], None, observations(), runs=2, seed=0)
    assert algorithm.rule is RULES["nonlinear-tdc"]
    assert state.parameters.auxiliary["head"].shape == (2, STATE)


def test_a_rule_that_learns_a_body_refuses_given_features():
    with pytest.raises(ValueError, match="'ttn' learns a body: it needs neural features"):
        prepare(RULES["ttn"], None, observations(), runs=2, seed=0)


def test_given_features_must_be_vectors():
    with pytest.raises(ValueError, match=r"not observations of shape \(2, 3\)"):
        prepare(RULES["tdc"], None, observations(2, 3), runs=2, seed=0)


def test_a_body_that_cannot_serve_is_refused_with_its_layer():
    def lazy(shape):
        return nn.Sequential(nn.Linear(*shape, 6), nn.LazyLinear(FEATURE))

    with pytest.raises(ValueError, match=r"^body: layer '1' is lazy"):
        prepare(RULES["tdc"], lazy, observations(), runs=2, seed=0)


def test_a_constraint_that_is_none_is_refused():
    with pytest.raises(ValueError, match="constraint 'cube:1'"):
        prepared(constraint="cube:1")


def test_the_constraint_is_the_algorithms_projection():
    algorithm, _ = prepared(constraint="box:2")
    assert algorithm.project({"w": torch.tensor([-3.0, 1.0])})["w"].tolist() == [-2, 1]


def test_rmsprop_starts_from_mean_squares_of_zero_and_leaves_an_assigned_head_alone():
    algorithm, state = prepared("semi_gradient+lstd", optimizers=part_optimizers("rmsprop"))
    assert algorithm.optimizers.head is SGD
    assert state.optimizer_state.head == {}
    assert all(not square.any() for square in state.optimizer_state.body.values())
    assert set(state.optimizer_state.body) == set(state.parameters.body)
    algorithm, _ = prepared("tdc", optimizers=part_optimizers("rmsprop"))
    assert algorithm.optimizers.head is not SGD


def test_base_steps_are_one_a_run_in_the_dtype_of_learning():
    sizes = base_steps(RULES["tdc"], (0.0, 0.25, 0.5), RUNS, observations(dtype=torch.float32))
    assert isinstance(sizes, StepSizes)
    assert [size.tolist() for size in sizes] == [[0.0] * 3, [0.25] * 3, [0.5] * 3]
    assert {size.dtype for size in sizes} == {torch.float32}


def test_an_assigned_head_takes_the_whole_way():
    for rule in (RULES["semi_gradient+lstd"], RULES["frozen+lstd"]):
        sizes = base_steps(rule, StepSizes(0.1, 0.2, 0.3), 2, observations())
        assert sizes.head.tolist() == [1.0, 1.0]
        assert sizes.body.tolist() == [0.1, 0.1]


def test_an_observation_axis_of_any_number_goes_to_the_body():
    def convolution(shape):
        return nn.Sequential(nn.Conv2d(shape[0], 3, 2), nn.Tanh(), nn.Flatten())

    _, state = prepare(RULES["tdc"], convolution, observations(2, 5, 4), runs=2, seed=0)
    assert state.parameters.head.shape == (2, 3 * 4 * 3)


def test_a_single_run_is_a_population_of_one():
    _, state = prepared(runs=1)
    assert all(len(leaf) == 1 for leaf in tree_leaves(state))
    assert isinstance(state.parameters, Parameters)
