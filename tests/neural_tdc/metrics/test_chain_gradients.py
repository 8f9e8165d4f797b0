"""Gradients of half the MSPBE of a chain, against autograd and finite differences."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.neural_tdc.metrics.decision_problem import (
    F64,
    D,
    body,
    both_policies,
    decision_problem,
    features,
    half_objective,
    head,
    normal,
    observations,
    sample_moments,
    tanh_features,
)


class Parameters(NamedTuple):
    body: dict[str, Tensor]
    head: Tensor


@both_policies
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_gradients_of_half_the_mspbe_equal_autograd(off_policy, layers, epsilon):
    chain, sample = decision_problem(off_policy)
    parameters = Parameters(body(layers), head)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.body.items()}
    theta = head.clone().requires_grad_()
    half_objective(sample, tanh_features(leaves, observations), theta, epsilon).backward()
    body_gradient, head_gradient, omega = chain.mspbe_gradients(
        tanh_features, parameters, observations, epsilon
    )
    assert body_gradient.keys() == leaves.keys()
    for name, leaf in leaves.items():
        torch.testing.assert_close(body_gradient[name], leaf.grad, atol=1e-10, rtol=1e-10)
        assert leaf.grad.abs().max() > 1e-3, name
    torch.testing.assert_close(head_gradient, theta.grad, atol=1e-10, rtol=1e-10)
    b, C = sample_moments(sample, tanh_features(parameters.body, observations), head)
    regularised = C + epsilon * torch.eye(D, dtype=F64)
    torch.testing.assert_close(regularised @ omega, b, atol=1e-10, rtol=0)


@both_policies
@pytest.mark.parametrize("layers", [1, 3])
def test_body_gradient_equals_finite_differences(off_policy, layers):
    chain, _ = decision_problem(off_policy)
    parameters = Parameters(body(layers), head)
    gradient, _, _ = chain.mspbe_gradients(tanh_features, parameters, observations)

    def half(moved):
        return chain.mspbe(tanh_features(moved, observations), head) / 2

    step = 1e-5
    for name, tensor in parameters.body.items():
        direction = normal(*tensor.shape, seed=11)
        ahead = half({**parameters.body, name: tensor + step * direction})
        behind = half({**parameters.body, name: tensor - step * direction})
        slope = (gradient[name] * direction).sum()
        assert (ahead - behind) / (2 * step) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


@both_policies
def test_gradients_equal_autograd_of_the_saddle_form_at_the_auxiliary_solution(off_policy):
    chain, sample = decision_problem(off_policy)
    parameters = Parameters(body(1), head)
    gradient, head_gradient, omega = chain.mspbe_gradients(tanh_features, parameters, observations)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.body.items()}
    theta = head.clone().requires_grad_()
    made = tanh_features(leaves, observations)
    now, then = made[sample.state], made[sample.following]
    delta = sample.reward + sample.discount * (then @ theta) - now @ theta
    correction = now @ omega
    saddle = sample.ratio * delta * correction - correction.square() / 2
    height = (sample.probability * saddle).sum()
    torch.testing.assert_close(2 * height, chain.mspbe(made.detach(), head))
    height.backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(gradient[name], leaf.grad, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(head_gradient, theta.grad, atol=1e-12, rtol=1e-10)


def test_gradients_hold_where_a_feature_stands_twice():
    # The rank of C stays below d along these parameters: no ε is needed.
    chain, _ = decision_problem(True)

    def doubled(parameters, observation):
        made = tanh_features(parameters, observation)
        return torch.cat([made, made[:, :1]], 1)

    single, longer = body(1), torch.cat([head, torch.zeros(1, dtype=F64)])
    gradient, _, _ = chain.mspbe_gradients(doubled, Parameters(single, longer), observations)
    plain, _, _ = chain.mspbe_gradients(tanh_features, Parameters(single, head), observations)
    for name, expected in plain.items():
        torch.testing.assert_close(gradient[name], expected, atol=1e-10, rtol=1e-8)


def test_gradients_keep_the_precision_of_the_body():
    chain, _ = decision_problem(True)
    single = Parameters({name: t.float() for name, t in body(3).items()}, head.float())
    found, head_gradient, omega = chain.mspbe_gradients(tanh_features, single, observations.float())
    exact, _, _ = chain.mspbe_gradients(tanh_features, Parameters(body(3), head), observations)
    assert head_gradient.dtype == omega.dtype == F64
    for name, expected in exact.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), expected, atol=1e-3, rtol=1e-3)


def test_given_features_have_no_body_gradient():
    chain, _ = decision_problem(True)
    gradient, head_gradient, omega = chain.mspbe_gradients(
        lambda body, observation: observation, Parameters({}, head), features
    )
    assert gradient == {}
    moments = chain.moments(features)
    torch.testing.assert_close(head_gradient, -moments.A.T @ omega)


def test_the_gradients_of_many_runs_by_vmap():
    chain, _ = decision_problem(True)
    runs = [Parameters(body(1, seed=seed), normal(D, seed=seed)) for seed in (20, 40, 60)]
    stacked = torch.utils._pytree.tree_map(lambda *leaves: torch.stack(leaves), *runs)
    found = torch.vmap(lambda run: chain.mspbe_gradients(tanh_features, run, observations))(stacked)
    alone = [chain.mspbe_gradients(tanh_features, run, observations) for run in runs]
    for name in runs[0].body:
        expected = torch.stack([gradient[name] for gradient, _, _ in alone])
        torch.testing.assert_close(found[0][name], expected)
    torch.testing.assert_close(found[1], torch.stack([gradient for _, gradient, _ in alone]))
