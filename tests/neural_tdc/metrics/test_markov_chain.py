"""The exact quantities of a chain, against sums over single transitions and autograd."""

import pytest
import torch

from neural_tdc.metrics.markov_chain import MarkovChain
from tests.neural_tdc.metrics.decision_problem import (
    DISCOUNT,
    F64,
    STATES,
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


@both_policies
def test_moments_equal_averages_over_single_transitions(off_policy):
    chain, sample = decision_problem(off_policy)
    moments = chain.moments(features)
    b, C = sample_moments(sample, features, head)
    torch.testing.assert_close(moments.b0 - moments.A @ head, b, atol=1e-14, rtol=0)
    torch.testing.assert_close(moments.C, C, atol=1e-14, rtol=0)
    torch.testing.assert_close(chain.neu(features, head), b.square().sum())


def test_value_satisfies_the_bellman_equation():
    chain, _ = decision_problem(True)
    value = chain.value()
    expected = chain.reward + DISCOUNT * chain.transition @ value
    torch.testing.assert_close(value, expected, atol=1e-13, rtol=0)


def test_value_of_two_states_by_hand():
    # From 0 to 1 with reward 2; from 1 back with probability ½ or to the end, reward 4, γ = ½:
    # v₀ = 2 + v₁/2 and v₁ = 4 + v₀/4.
    transition = torch.tensor([[0.0, 1.0], [0.5, 0.0]])
    chain = MarkovChain(transition, torch.tensor([2.0, 4.0]), 0.5, torch.tensor([0.5, 0.5]))
    expected = torch.tensor([32 / 7, 36 / 7], dtype=F64)
    torch.testing.assert_close(chain.value(), expected)


@both_policies
def test_hessian_in_the_head_is_a_transposed_c_inverse_a(off_policy):
    chain, sample = decision_problem(off_policy)
    moments = chain.moments(features)
    hessian = torch.autograd.functional.hessian(
        lambda theta: half_objective(sample, features, theta, 0.0), head
    )
    expected = moments.A.T @ torch.linalg.solve(moments.C, moments.A)
    torch.testing.assert_close(hessian, expected, atol=1e-12, rtol=1e-10)


def test_on_policy_curvature_is_bounded_below_by_the_discount():
    chain, _ = decision_problem(False)
    moments = chain.moments(features)
    hessian = moments.A.T @ torch.linalg.solve(moments.C, moments.A)
    bound = (1 - DISCOUNT) ** 2 * torch.linalg.eigvalsh(moments.C)[0]
    assert torch.linalg.eigvalsh(hessian)[0] > bound > 0


@both_policies
def test_the_best_response_makes_the_mspbe_zero_for_every_body(off_policy):
    chain, _ = decision_problem(off_policy)
    for seed in (20, 40):
        made = tanh_features(body(1, seed=seed), observations)
        best = chain.td_fixed_point(made)
        assert chain.mspbe(made, best) < 1e-20
        assert chain.mspbe(made, head) > 1e-3


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_best_response_with_a_ridge_in_closed_form(ridge):
    chain, _ = decision_problem(True)
    A, b0, C = chain.moments(features)
    hessian = A.T @ torch.linalg.solve(C, A) + ridge * torch.eye(D, dtype=F64)
    best = torch.linalg.solve(hessian, A.T @ torch.linalg.solve(C, b0))
    lowest = chain.mspbe(features, best) / 2 + ridge / 2 * best.square().sum()
    expected = b0 @ torch.linalg.solve(C + A @ A.T / ridge, b0) / 2
    torch.testing.assert_close(lowest, expected, atol=1e-13, rtol=1e-10)


def test_a_singular_fixed_point_is_announced():
    chain, _ = decision_problem(True)
    doubled = torch.cat([features, features[:, :1]], 1)
    with pytest.warns(UserWarning, match="A is singular"):
        fixed_point = chain.td_fixed_point(doubled)
    values = features @ chain.td_fixed_point(features)
    torch.testing.assert_close(doubled @ fixed_point, values, atol=1e-9, rtol=0)


def test_errors_equal_their_definitions():
    chain, _ = decision_problem(True)
    values, d = features @ head, chain.weighting
    value = torch.linalg.inv(torch.eye(STATES) - DISCOUNT * chain.transition) @ chain.reward
    backed_up = chain.reward + DISCOUNT * chain.transition @ values

    def size(difference):
        return sum(float(d[s] * difference[s] ** 2) for s in range(STATES)) ** 0.5

    assert chain.rmsve(features, head) == pytest.approx(size(values - value))
    assert chain.rmsbe(features, head) == pytest.approx(size(backed_up - values))
    fixed_point = chain.td_fixed_point(features)
    assert chain.lstd_rmsve(features) == pytest.approx(size(features @ fixed_point - value))
    root = d.sqrt()[:, None]
    best = torch.linalg.lstsq(root * features, root * value[:, None]).solution[:, 0]
    assert chain.best_linear_rmsve(features) == pytest.approx(size(features @ best - value))
    assert chain.best_linear_rmsve(features) < chain.lstd_rmsve(features)


def test_the_mspbe_is_below_the_squared_bellman_error_and_equal_for_tabular_features():
    chain, _ = decision_problem(True)
    assert chain.mspbe(features, head).sqrt() < chain.rmsbe(features, head)
    tabular, values = torch.eye(STATES, dtype=F64), normal(STATES, seed=12)
    torch.testing.assert_close(chain.mspbe(tabular, values).sqrt(), chain.rmsbe(tabular, values))
    assert chain.lstd_rmsve(tabular) < 1e-13


def test_errors_of_many_runs_by_vmap():
    chain, _ = decision_problem(True)
    many, heads = normal(3, STATES, D, seed=13), normal(3, D, seed=14)
    for method in (chain.mspbe, chain.rmsve, chain.rmsbe, chain.neu):
        alone = torch.stack([method(*run) for run in zip(many, heads)])
        torch.testing.assert_close(torch.vmap(method)(many, heads), alone)
    for method in (chain.lstd_rmsve, chain.best_linear_rmsve):
        alone = torch.stack([method(run) for run in many])
        torch.testing.assert_close(torch.vmap(method)(many), alone)


def test_features_in_single_precision_are_measured_in_double():
    chain, _ = decision_problem(True)
    assert chain.mspbe(features.float(), head.float()).dtype == F64
    expected = float(chain.mspbe(features, head))
    assert chain.mspbe(features.float(), head.float()) == pytest.approx(expected, rel=1e-4)
