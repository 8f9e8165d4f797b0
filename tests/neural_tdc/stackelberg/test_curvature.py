"""Curvature by Hessian-vector products against dense Hessians."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from experiments.convergence.scalar_instance import ScalarInstance
from neural_tdc.randomness import generator
from neural_tdc.stackelberg import hessians as module
from neural_tdc.stackelberg.curvature import curvature, curvatures, extreme_eigenvalue, trace
from neural_tdc.stackelberg.hessians import (
    Operator,
    dense,
    flatten,
    hessian_operator,
    reduced_hessian_operator,
)
from neural_tdc.stackelberg.problems import (
    StackelbergProblem,
    classification,
    reduced_objective,
    regression,
)
from neural_tdc.types import Parameters

SAMPLES, INPUTS, HIDDEN, FEATURES, CLASSES = 11, 3, 5, 4, 3


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def deep_features(body: dict[str, Tensor], observation: Tensor) -> Tensor:
    hidden = torch.tanh(observation @ body["first"] + body["bias"])
    return torch.tanh(hidden @ body["second"])


def deep_body() -> dict[str, Tensor]:
    return {
        "first": normal(INPUTS, HIDDEN),
        "bias": normal(HIDDEN, name="bias"),
        "second": normal(HIDDEN, FEATURES, name="second"),
    }


def problems() -> dict[str, StackelbergProblem]:
    inputs = normal(SAMPLES, INPUTS)
    label = torch.arange(SAMPLES)
    return {
        "regression": regression(deep_features, inputs, normal(SAMPLES, name="target"), 0.1),
        "matrix": regression(deep_features, inputs, normal(SAMPLES, 2, name="target"), 0.1),
        "logistic": classification(deep_features, inputs, (label % 2).double(), 0.1),
        "softmax": classification(deep_features, inputs, label % CLASSES, 0.1, classes=CLASSES),
    }


def dense_hessian(function, parameters) -> Tensor:
    vector, restore = flatten(parameters)
    return torch.func.jacrev(torch.func.grad(lambda flat: function(restore(flat))))(vector)


def diagonal(values: list[float]) -> Operator:
    entries = torch.tensor(values, dtype=torch.float64)
    return Operator(lambda vector: entries * vector, torch.zeros_like(entries))


class Pair(NamedTuple):
    matrix: Tensor
    rest: dict[str, Tensor]


def test_a_pytree_survives_being_laid_out_as_a_vector():
    tree = Pair(normal(2, 3), {"a": normal(4), "b": normal(1, 5)})
    vector, restore = flatten(tree)
    assert vector.shape == (15,)
    back = restore(vector)
    assert isinstance(back, Pair)
    assert torch.equal(back.matrix, tree.matrix)
    assert torch.equal(back.rest["b"], tree.rest["b"])


def test_a_hessian_vector_product_of_a_quadratic_is_computed_by_hand():
    # f = x₀² + 3 x₀ x₁ + 2 x₁²: H = [[2, 3], [3, 4]]
    def function(tree):
        return tree["x"] ** 2 + 3 * tree["x"] * tree["y"] + 2 * tree["y"] ** 2

    point = {"x": torch.tensor(0.7), "y": torch.tensor(-0.2)}
    found = hessian_operator(function, point).product(torch.tensor([1.0, 2.0]))
    assert found.tolist() == pytest.approx([8, 11])


def test_a_linear_function_and_an_unused_parameter_have_no_curvature():
    point = {"used": normal(3), "unused": normal(2)}
    linear = hessian_operator(lambda tree: tree["used"].sum(), point)
    exact(linear.product(normal(5)), torch.zeros(5, dtype=torch.float64))
    cubic = hessian_operator(lambda tree: (tree["used"] ** 3).sum(), point)
    expected = torch.cat([6 * point["used"], torch.zeros(2, dtype=torch.float64)])
    exact(dense(cubic).diagonal(), expected)


@pytest.mark.parametrize("name", problems())
def test_products_of_the_joint_hessian_equal_the_dense_one(name):
    problem, body = problems()[name], deep_body()
    head = normal(*problem.best_response(body).shape, name="head")

    def function(moved):
        return problem.objective(moved, head)

    operator = hessian_operator(function, body)
    matrix = dense(operator)
    exact(matrix, dense_hessian(function, body))
    direction = normal(len(operator.like), name="direction")
    exact(operator.product(direction), matrix @ direction)


@pytest.mark.parametrize("name", ["regression", "matrix"])
def test_the_implicit_hessian_of_the_reduced_objective_equals_autograd_through_the_ridge(name):
    problem, body = problems()[name], deep_body()
    implicit = dense(reduced_hessian_operator(problem, body))
    through = hessian_operator(lambda moved: reduced_objective(problem, moved), body)
    exact(implicit, dense(through))
    exact(implicit, dense_hessian(lambda moved: reduced_objective(problem, moved), body))


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_the_implicit_hessian_equals_finite_differences_of_the_danskin_gradient(name):
    problem, body = problems()[name], deep_body()
    vector, restore = flatten(body)
    head_of = problem.best_response

    def gradient(flat: Tensor) -> Tensor:
        head = head_of(restore(flat)).detach()
        return torch.func.grad(lambda at: problem.objective(restore(at), head))(flat)

    implicit = dense(reduced_hessian_operator(problem, body))
    step = 2e-3
    for index in range(2):
        direction = normal(len(vector), name=f"direction{index}")
        direction = direction / direction.norm()
        near = gradient(vector + step * direction) - gradient(vector - step * direction)
        far = gradient(vector + 2 * step * direction) - gradient(vector - 2 * step * direction)
        exact(implicit @ direction, (8 * near - far) / (12 * step), 1e-8)


def test_a_large_head_is_answered_by_conjugate_gradients(monkeypatch):
    problem, body = problems()["softmax"], deep_body()
    factorised = reduced_hessian_operator(problem, body)
    direction = normal(len(factorised.like), name="direction")
    expected = factorised.product(direction)
    monkeypatch.setattr(module, "DENSE_HEAD", 2)
    tight = reduced_hessian_operator(problem, body, tolerance=1e-13)
    exact(tight.product(direction), expected)
    exact(reduced_hessian_operator(problem, body).product(direction), expected, 1e-8)


def test_the_curvature_of_the_scalar_instance_is_its_closed_form():
    instance = ScalarInstance()
    problem = StackelbergProblem(instance.objective, instance.best_response)
    for body in (0.2, 0.9, 2.5):
        point = torch.tensor(body, dtype=torch.float64)
        found = dense(reduced_hessian_operator(problem, point))
        exact(found[0, 0], instance.reduced_curvature(point))


@pytest.mark.parametrize("name", problems())
def test_at_the_best_response_the_reduced_hessian_never_exceeds_the_joint_one(name):
    problem, body = problems()[name], deep_body()
    head = problem.best_response(body).detach()
    joint = dense(hessian_operator(lambda moved: problem.objective(moved, head), body))
    reduced = dense(reduced_hessian_operator(problem, body, head))
    exact(reduced, reduced.T)
    gap = torch.linalg.eigvalsh(joint - reduced)
    assert float(gap[0]) > -1e-12
    assert float(gap[-1]) > 1e-4


def test_a_head_without_strong_convexity_is_refused():
    problem = StackelbergProblem(
        lambda body, head: (body * head).sum(), lambda body: torch.zeros_like(body)
    )
    with pytest.raises(ValueError, match="not strongly convex"):
        reduced_hessian_operator(problem, normal(3))


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("name", problems())
def test_lanczos_finds_the_extreme_eigenvalues_of_the_dense_hessian(name, which):
    problem, body = problems()[name], deep_body()
    head = normal(*problem.best_response(body).shape, name="head")
    index = -1 if which == "largest" else 0
    for operator in (
        hessian_operator(lambda moved: problem.objective(moved, head), body),
        reduced_hessian_operator(problem, body),
    ):
        values, vectors = torch.linalg.eigh(dense(operator))
        found = extreme_eigenvalue(operator, generator(1, "start"), which=which, tolerance=1e-12)
        assert found.value == pytest.approx(float(values[index]), abs=1e-10)
        assert abs(float(found.vector @ vectors[:, index])) == pytest.approx(1, abs=1e-9)
        assert found.residual <= 1e-9


def test_lanczos_stays_orthogonal_over_many_steps():
    # One eigenvalue far out converges early; without reorthogonalisation its copies would appear
    # and the second one would be missed.
    entries = torch.linspace(-1, 1, 300, dtype=torch.float64)
    entries[-1] = 50.0
    operator = Operator(lambda vector: entries * vector, torch.zeros_like(entries))
    largest = extreme_eigenvalue(operator, generator(2, "start"))
    assert largest.value == pytest.approx(50, abs=1e-8)
    assert largest.products < 20
    smallest = extreme_eigenvalue(
        operator, generator(2, "start"), which="smallest", tolerance=1e-8, products=200
    )
    assert smallest.value == pytest.approx(-1, abs=1e-8)


def test_the_residual_says_that_too_few_products_were_allowed():
    entries = torch.linspace(0, 1, 200, dtype=torch.float64)
    operator = Operator(lambda vector: entries * vector, torch.zeros_like(entries))
    short = extreme_eigenvalue(operator, generator(3, "start"), products=5)
    assert short.products == 6
    assert short.residual > 1e-3
    assert 1 - short.residual <= short.value <= 1


def test_lanczos_ends_at_an_invariant_space():
    found = extreme_eigenvalue(diagonal([2.0, 2.0, 2.0, -1.0]), generator(4, "start"))
    assert found.value == pytest.approx(2, abs=1e-12)
    assert found.products == 3
    nothing = extreme_eigenvalue(diagonal([0.0, 0.0, 0.0]), generator(4, "start"))
    assert nothing.value == 0
    assert nothing.residual == 0


def test_the_trace_of_a_diagonal_matrix_is_exact_with_random_signs():
    estimate = trace(diagonal([1.0, -2.5, 4.0]), generator(5, "probes"), probes=3)
    assert estimate.mean == pytest.approx(2.5, abs=1e-14)
    assert estimate.standard_error == pytest.approx(0, abs=1e-14)


def test_the_trace_lies_within_its_standard_errors_and_they_are_right():
    root = normal(8, 8)
    matrix = root + root.T
    operator = Operator(lambda vector: matrix @ vector, torch.zeros(8, dtype=torch.float64))
    estimate = trace(operator, generator(6, "probes"), probes=400)
    assert abs(estimate.mean - float(matrix.trace())) < 3 * estimate.standard_error
    # Var zᵀHz = 2 Σ_{i≠j} H_ij²
    off = matrix - torch.diag(matrix.diagonal())
    expected = math.sqrt(2 * float(off.square().sum()) / 400)
    assert estimate.standard_error == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", problems())
def test_the_curvatures_of_three_objectives_agree_with_the_dense_hessians(name):
    problem, body = problems()[name], deep_body()
    head = normal(*problem.best_response(body).shape, name="head")
    best = problem.best_response(body)
    parameters, source = Parameters(body, head, {}), generator(7, "probes")
    found = curvatures(problem, parameters, source, probes=200, products=100, tolerance=1e-10)
    matrices = (
        dense(hessian_operator(lambda moved: problem.objective(moved, head), body)),
        dense(hessian_operator(lambda moved: problem.objective(moved, best.detach()), body)),
        dense(reduced_hessian_operator(problem, body)),
    )
    for each, matrix in zip(found, matrices, strict=True):
        assert abs(each.trace.mean - float(matrix.trace())) < 3 * each.trace.standard_error
        expected = float(torch.linalg.eigvalsh(matrix)[-1])
        assert each.largest.value == pytest.approx(expected, abs=1e-9)


def test_the_same_seed_gives_the_same_curvature_and_single_precision_works():
    operator = diagonal([1.0, 2.0, 5.0, -3.0])
    assert curvature(operator, generator(8, "x"))[1] == curvature(operator, generator(8, "x"))[1]
    single = Operator(operator.product, operator.like.float())
    narrow = hessian_operator(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0, 3.0]))
    assert extreme_eigenvalue(narrow, generator(8, "x")).value == pytest.approx(18, rel=1e-5)
    assert single.like.dtype == torch.float32


def test_one_probe_has_no_standard_error_and_is_refused():
    with pytest.raises(ValueError, match="at least 2 probes, got 1"):
        trace(diagonal([1.0, 2.0]), generator(9, "x"), probes=1)
