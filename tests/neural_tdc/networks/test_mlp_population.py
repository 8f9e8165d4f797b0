"""Populations of fully connected networks against autograd and against `torch.nn`."""

import math

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    Layer,
    NetworkObjective,
    cross_entropy,
    features,
    gradients,
    initial_networks,
    objective_value,
    one_hot,
    probability_error,
    squared,
)
from neural_tdc.randomness import generator

SAMPLES, RUNS = 6, 4


def problem(sizes, loss):
    """Return networks, inputs [run, sample, input] and targets of a random problem, in float64."""
    source = generator(3, "problem", *sizes)
    networks = initial_networks(sizes, 1, RUNS, torch.float64)
    inputs = torch.randn(RUNS, SAMPLES, sizes[0], generator=source, dtype=torch.float64)
    if loss is CROSS_ENTROPY:
        return networks, inputs, torch.randint(sizes[-1], (RUNS, SAMPLES), generator=source)
    target = torch.randn(RUNS, SAMPLES, sizes[-1], generator=source, dtype=torch.float64)
    return networks, inputs, target


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("loss", [SQUARED, CROSS_ENTROPY], ids=["squared", "cross-entropy"])
@pytest.mark.parametrize("sizes", [(3, 5, 2), (3, 7, 5, 4), (2, 7, 3, 5, 4)])
def test_gradients_equal_autograd_for_every_depth_loss_and_activation(sizes, loss, activation):
    objective = NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS[activation], 0.3)
    networks, inputs, target = problem(sizes, loss)
    leaves = tree_map(lambda leaf: leaf.clone().requires_grad_(), networks)
    value = objective_value(objective, leaves, inputs, target)
    assert value.shape == (RUNS,)
    expected = torch.autograd.grad(value.sum(), tree_leaves(leaves))
    found = tree_leaves(gradients(objective, networks, inputs, target))
    assert [one.shape for one in found] == [other.shape for other in expected]
    for one, other in zip(found, expected):
        assert (one - other).abs().max() < 1e-14
        assert other.abs().max() > 1e-3


def test_one_network_without_a_run_axis_has_the_same_gradients():
    objective = NetworkObjective(CROSS_ENTROPY, CLOSED_FORM_ACTIVATIONS["tanh"], 0.1)
    networks, inputs, target = problem((3, 7, 5, 4), CROSS_ENTROPY)
    many = gradients(objective, networks, inputs, target)
    one = gradients(objective, tree_map(lambda leaf: leaf[2], networks), inputs[2], target[2])
    for first, second in zip(tree_leaves(one), tree_leaves(many)):
        torch.testing.assert_close(first, second[2], rtol=1e-14, atol=1e-15)


def test_gradients_equal_the_papers_closed_forms_for_two_layers():
    (layer,), head, _ = networks = tree_map(
        lambda leaf: leaf[0], initial_networks((3, 5, 4), 0, 1, torch.float64)
    )
    networks = networks._replace(body=(Layer(layer.weight, torch.zeros_like(layer.bias)),))
    _, inputs, real = problem((3, 5, 4), SQUARED)
    _, _, label = problem((3, 5, 4), CROSS_ENTROPY)
    samples = len(inputs[0])
    feature = (inputs[0] @ layer.weight).clamp(min=0)
    truth = torch.eye(4, dtype=torch.float64)[label[0]]
    exponentials = (feature @ head).exp()
    for loss, target, error in (
        (SQUARED, real[0], feature @ head - real[0]),
        (CROSS_ENTROPY, label[0], exponentials / exponentials.sum(1, keepdim=True) - truth),
    ):
        found = gradients(
            NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS["relu"], 0.2),
            networks,
            inputs[0],
            target,
        )
        # Section 5.1 and 5.2 of arXiv 2605.15530: Xᵀ[(eθᵀ)∘σ'(XW)]/n and Zᵀe/n + λθ
        body = inputs[0].T @ ((error @ head.T) * (feature > 0)) / samples
        torch.testing.assert_close(found.body[0].weight, body, rtol=1e-13, atol=1e-15)
        by_head = feature.T @ error / samples + 0.2 * head
        torch.testing.assert_close(found.head, by_head, rtol=1e-13, atol=1e-15)


def test_features_are_those_of_the_same_layers_in_torch():
    networks, inputs, _ = problem((3, 7, 5, 4), SQUARED)
    module = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU()).double()
    with torch.no_grad():
        for linear, layer in zip((module[0], module[2]), networks.body):
            linear.weight.copy_(layer.weight[1].T)
            linear.bias.copy_(layer.bias[1])
        expected = module(inputs[1])
    found = features(networks.body, inputs, CLOSED_FORM_ACTIVATIONS["relu"])
    torch.testing.assert_close(found[1], expected, rtol=1e-13, atol=1e-15)
    assert 0 < float((expected == 0).double().mean()) < 1


def test_losses_by_hand():
    prediction = torch.tensor([[1.0, 0.0], [0.0, math.log(3)]], dtype=torch.float64)
    target = torch.tensor([[0.0, 0.0], [2.0, math.log(3)]], dtype=torch.float64)
    assert squared(prediction, target).item() == pytest.approx(5 / 4)
    label = torch.tensor([0, 1])
    expected = (math.log(1 + math.exp(-1)) + math.log(4 / 3)) / 2
    assert cross_entropy(prediction, label).item() == pytest.approx(expected, abs=1e-15)
    error = probability_error(prediction, label)
    assert error[1].tolist() == pytest.approx([0.25, -0.25])
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[False, False, True], [True, False, False]]


def test_a_network_depends_on_the_seed_and_its_own_number_only():
    few, many = (initial_networks((3, 5, 2), 7, runs, torch.float64) for runs in (2, 4))
    other = initial_networks((3, 5, 2), 8, 2, torch.float64)
    for one, more, different in zip(tree_leaves(few), tree_leaves(many), tree_leaves(other)):
        assert torch.equal(one, more[:2])
        assert not torch.equal(one, different)
        assert not torch.equal(one[0], one[1])


def test_initial_parameters_fill_the_range_of_their_fan_in():
    networks = initial_networks((16, 400, 300), 0, 2, torch.float64)
    (layer,), head, _ = networks
    assert [layer.weight.shape, layer.bias.shape, head.shape] == [
        (2, 16, 400), (2, 400), (2, 400, 300),
    ]  # fmt: skip
    for leaf, bound in ((layer.weight, 1 / 4), (layer.bias, 1 / 4), (head, 1 / 20)):
        assert 0.98 * bound < leaf.abs().max() <= bound
        assert leaf.min() < -0.98 * bound


@pytest.mark.parametrize("sizes", [(3, 2), (3, 0, 2), (0, 4, 1)])
def test_a_network_without_a_layer_or_of_no_units_is_refused(sizes):
    with pytest.raises(ValueError, match="a network needs an input, a layer and an output"):
        initial_networks(sizes, 0, 1)


def test_sizes_that_do_not_fit_are_refused_and_not_broadcast():
    with pytest.raises(Exception, match=r"target|jaxtyping|type"):
        squared(torch.zeros(5, 1), torch.zeros(5))
