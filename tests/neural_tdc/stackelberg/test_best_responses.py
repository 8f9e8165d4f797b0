"""The head that is optimal for given features."""

import math

import pytest
import scipy.optimize
import torch
from torch import Tensor

from neural_tdc.randomness import generator
from neural_tdc.stackelberg.best_responses import (
    logistic_response,
    mspbe_response,
    ridge_response,
    softmax_response,
)
from neural_tdc.stackelberg.newton import conjugate_gradients
from neural_tdc.stackelberg.problems import logistic_loss, reduced_mspbe, softmax_loss, squared_loss


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("samples", "dimension"), [(9, 4), (4, 9), (5, 5)])
@pytest.mark.parametrize("outputs", [(), (3,)])
def test_the_ridge_response_solves_the_normal_equations(samples, dimension, outputs):
    features, target = normal(samples, dimension), normal(samples, *outputs, name="target")
    head = ridge_response(features, target, 0.07)
    assert head.shape == (dimension, *outputs)
    exact(features.T @ (features @ head - target) / samples + 0.07 * head, torch.zeros_like(head))


def test_the_ridge_response_of_one_sample_and_one_feature_is_computed_by_hand():
    # θ = z y / (z² + λ) = 2·3 / (4 + 0.5)
    head = ridge_response(torch.tensor([[2.0]]), torch.tensor([3.0]), 0.5)
    assert float(head) == pytest.approx(6 / 4.5)


def test_many_features_are_solved_for_in_the_space_of_the_samples():
    features, target, ridge = normal(4, 400), normal(4, name="target"), 1e-3
    by_features = torch.linalg.solve(
        features.T @ features / 4 + ridge * torch.eye(400, dtype=torch.float64),
        features.T @ target / 4,
    )
    exact(ridge_response(features, target, ridge), by_features)


def test_no_other_head_has_a_smaller_squared_loss():
    features, target = normal(9, 4), normal(9, name="target")
    head = ridge_response(features, target, 0.07)
    best = squared_loss(features, target, head, 0.07)
    for direction in normal(20, 4, name="direction"):
        assert squared_loss(features, target, head + 1e-3 * direction, 0.07) > best


def test_without_a_ridge_regular_features_give_least_squares():
    features, target = normal(9, 4), normal(9, name="target")
    expected = torch.linalg.lstsq(features, target[:, None]).solution[:, 0]
    exact(ridge_response(features, target, 0.0), expected)


def test_a_singular_regression_without_a_ridge_is_refused():
    features = normal(9, 4)
    features[:, 3] = features[:, 0] - 2 * features[:, 1]
    target = normal(9, name="target")
    with pytest.raises(ValueError, match=r"singular \(rank 3 of 4\).*ridge"):
        ridge_response(features, target, 0.0)
    with pytest.raises(ValueError, match=r"singular \(rank 5 of 8\)"):
        ridge_response(normal(5, 8), target[:5], 0.0)
    with pytest.raises(ValueError, match=r"singular \(rank 0 of 4\)"):
        ridge_response(torch.zeros(9, 4), target, 0.0)
    assert ridge_response(features, target, 1e-3).isfinite().all()


def test_a_moment_matrix_that_is_not_positive_gives_nan_and_no_plausible_number():
    system, _, reward = chain(dimension=2)
    indefinite = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    assert mspbe_response(system, indefinite, reward, 0.1).isnan().all()


@pytest.mark.parametrize("ridge", [-1e-3, math.nan, math.inf])
def test_a_ridge_that_is_negative_or_not_finite_is_refused(ridge):
    with pytest.raises(ValueError, match="ridge must be finite and not negative"):
        ridge_response(normal(9, 4), normal(9, name="target"), ridge)
    with pytest.raises(ValueError, match="ridge must be finite and not negative"):
        logistic_response(normal(9, 4), torch.ones(9, dtype=torch.float64), ridge)


def test_many_ridge_responses_at_once_equal_one_at_a_time():
    for samples in (9, 3):
        features, target = normal(5, samples, 4), normal(samples, name="target")
        together = torch.vmap(lambda z, y: ridge_response(z, y, 0.07), in_dims=(0, None))(
            features, target
        )
        apart = torch.stack([ridge_response(z, target, 0.07) for z in features])
        exact(together, apart, 1e-13)


def test_the_ridge_response_is_differentiable_twice():
    features = normal(6, 3).requires_grad_()
    target = normal(6, name="target")
    assert torch.autograd.gradgradcheck(lambda z: ridge_response(z, target, 0.3), features)


def test_columns_that_do_not_match_the_samples_are_refused():
    with pytest.raises(Exception, match="sample"):
        ridge_response(normal(9, 4), normal(8, name="target"), 0.1)


def chain(dimension: int = 4, states: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    transition = torch.softmax(2 * normal(states, states, name="transition"), -1)
    weighting = torch.linalg.matrix_power(transition, 500)[0]
    features, reward = torch.tanh(normal(states, dimension)), normal(states, name="reward")
    weighted = features.T * weighting
    system = weighted @ (torch.eye(states, dtype=torch.float64) - 0.9 * transition) @ features
    return system, weighted @ features, weighted @ reward


def half_mspbe(system: Tensor, moment: Tensor, reward: Tensor, head: Tensor) -> Tensor:
    error = reward - system @ head
    return error @ torch.linalg.solve(moment, error) / 2


def test_the_best_response_of_a_chain_zeroes_the_gradient_of_the_ridged_mspbe():
    system, moment, reward = chain()
    head = mspbe_response(system, moment, reward, 0.03).requires_grad_()
    loss = half_mspbe(system, moment, reward, head) + 0.03 / 2 * head.square().sum()
    (gradient,) = torch.autograd.grad(loss, head)
    exact(gradient, torch.zeros(4, dtype=torch.float64))
    exact(reduced_mspbe(system, moment, reward, 0.03), loss.detach())
    assert float(loss.detach()) > 1e-3


def test_without_a_ridge_the_best_response_of_a_chain_is_lstd_and_the_mspbe_vanishes():
    system, moment, reward = chain()
    head = mspbe_response(system, moment, reward, 0.0)
    exact(head, torch.linalg.solve(system, reward))
    assert float(half_mspbe(system, moment, reward, head)) < 1e-20
    with pytest.raises(ValueError, match="0 for every body"):
        reduced_mspbe(system, moment, reward, 0.0)


def test_a_singular_chain_without_a_ridge_is_refused():
    system, moment, reward = chain()
    system[:, 2] = system[:, 1]
    with pytest.raises(ValueError, match=r"A is singular \(rank 3 of 4\)"):
        mspbe_response(system, moment, reward, 0.0)
    assert mspbe_response(system, moment, reward, 0.1).isfinite().all()


def labelled(samples: int = 40, dimension: int = 3) -> tuple[Tensor, Tensor]:
    features = normal(samples, dimension)
    chance = torch.sigmoid(features.sum(-1))
    label = torch.bernoulli(chance, generator=generator(0, "label"))
    return features, label


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_the_logistic_response_agrees_with_a_general_minimiser(ridge):
    features, label = labelled()
    found = logistic_response(features, label, ridge)

    def loss(head):
        head = torch.tensor(head, requires_grad=True)
        value = logistic_loss(features, label, head, ridge)
        (gradient,) = torch.autograd.grad(value, head)
        return value.item(), gradient.numpy()

    reference = scipy.optimize.minimize(
        loss, [0.0] * 3, jac=True, method="BFGS", options={"gtol": 1e-9}
    )
    exact(found.head, torch.tensor(reference.x), 1e-7)
    gradient = torch.func.grad(lambda head: logistic_loss(features, label, head, ridge))(found.head)
    assert float(gradient.abs().max()) <= 1e-10
    assert found.residual == pytest.approx(float(gradient.abs().max()), abs=1e-14)


def test_the_logistic_response_of_a_constant_feature_is_the_log_odds():
    # 3 of 5 ones: p = .6, θ = log(.6/.4)
    label = torch.tensor([1.0, 1, 1, 0, 0], dtype=torch.float64)
    found = logistic_response(torch.ones(5, 1, dtype=torch.float64), label, 0.0)
    assert float(found.head) == pytest.approx(math.log(1.5), abs=1e-9)


def test_the_softmax_response_zeroes_the_gradient():
    features, label = normal(30, 4), torch.arange(30) % 5
    found = softmax_response(features, label, 5, 0.02)
    gradient = torch.func.grad(lambda head: softmax_loss(features, label, head, 0.02))(found.head)
    assert found.head.shape == (4, 5)
    assert float(gradient.abs().max()) <= 1e-10
    best = softmax_loss(features, label, found.head, 0.02)
    for direction in normal(10, 4, 5, name="direction"):
        assert softmax_loss(features, label, found.head + 1e-2 * direction, 0.02) > best


def test_two_classes_of_the_softmax_are_the_logistic_response():
    # Θ = (−θ/2, θ/2): its ridge λ/2 ‖Θ‖² is λ/4 ‖θ‖²
    features, label = labelled()
    pair = softmax_response(features, label.long(), 2, 0.1).head
    single = logistic_response(features, label, 0.05).head
    exact(pair[:, 1] - pair[:, 0], single, 1e-8)
    exact(pair.sum(-1), torch.zeros(3, dtype=torch.float64), 1e-8)


def test_separable_classes_have_a_response_with_a_ridge_only():
    features = torch.tensor([[-2.0, 1.0], [-1.0, -1.0], [1.0, 2.0], [3.0, 1.0]])
    features, label = features.double(), torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)
    with pytest.raises(ValueError, match="add a ridge"):
        logistic_response(features, label, 0.0)
    assert logistic_response(features, label, 1e-4).residual <= 1e-10
    with pytest.raises(ValueError, match="not unique without a ridge"):
        softmax_response(features, label.long(), 2, 0.0)


def test_collinear_features_without_a_ridge_are_refused_by_the_logistic_response():
    features, label = labelled()
    features[:, 2] = features[:, 0]
    with pytest.raises(ValueError, match=r"singular \(rank 2 of 3\)"):
        logistic_response(features, label, 0.0)


def test_a_response_that_does_not_converge_says_its_residual():
    features, label = labelled()
    with pytest.raises(ValueError, match=r"did not converge: residual .* after 1 Newton steps"):
        logistic_response(features, label, 0.01, iterations=1)
    with pytest.warns(RuntimeWarning, match="softmax best response did not converge"):
        found = softmax_response(features, label.long(), 2, 0.01, iterations=1, strict=False)
    assert found.iterations == 1
    assert found.residual > 1e-10


def test_features_that_are_not_finite_do_not_pass_for_converged():
    features, label = labelled()
    features[3, 1] = math.nan
    with pytest.raises(ValueError, match="residual nan"):
        logistic_response(features, label, 0.01)


def test_a_warm_start_saves_newton_steps():
    features, label = normal(30, 4), torch.arange(30) % 5
    first = softmax_response(features, label, 5, 0.02)
    second = softmax_response(features + 1e-3 * normal(30, 4, name="drift"), label, 5, 0.02,
                              start=first.head)  # fmt: skip
    assert 0 < second.iterations < first.iterations


def test_large_weights_far_from_the_solution_are_found_back_from():
    features, label = labelled()
    start = torch.tensor([80.0, -90.0, 70.0], dtype=torch.float64)
    away = logistic_response(features, label, 0.01, start=start)
    exact(away.head, logistic_response(features, label, 0.01).head, 1e-7)


@pytest.mark.parametrize("label", [[0.0, 0.5, 1.0], [0.0, 2.0, 1.0], [-1.0, 1.0, 1.0]])
def test_labels_other_than_zero_and_one_are_refused(label):
    with pytest.raises(ValueError, match="must be 0 or 1"):
        logistic_response(normal(3, 2), torch.tensor(label, dtype=torch.float64), 0.1)


@pytest.mark.parametrize("label", [[0, 1, 3], [-1, 0, 1]])
def test_classes_out_of_range_are_refused(label):
    with pytest.raises(ValueError, match="between 0 and 2"):
        softmax_response(normal(3, 2), torch.tensor(label), 3, 0.1)


def test_single_precision_converges_to_its_own_tolerance():
    features, label = normal(30, 4).float(), torch.arange(30) % 5
    found = softmax_response(features, label, 5, 0.02)
    assert found.head.dtype == torch.float32
    assert found.residual <= 1e-5


def test_conjugate_gradients_solve_a_positive_system():
    root = normal(6, 6)
    matrix = root @ root.T + torch.eye(6, dtype=torch.float64)
    right = normal(6, name="right")
    found = conjugate_gradients(lambda x: matrix @ x, right, 1e-12, 60)
    exact(found, torch.linalg.solve(matrix, right))
    # two distinct eigenvalues take two steps
    diagonal = torch.tensor([2.0, 2, 5, 5, 2, 5], dtype=torch.float64)
    exact(conjugate_gradients(lambda x: diagonal * x, right, 0.0, 2), right / diagonal, 1e-12)
