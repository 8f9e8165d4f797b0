"""The scalar example of Lemma 4.1."""

import pytest
import torch
from torch import Tensor

from experiments.convergence.scalar_instance import ScalarInstance
from neural_tdc.stackelberg.problems import StackelbergProblem, reduced_gradient


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_the_scalar_instance_reproduces_the_numbers_of_the_lemma():
    instance = ScalarInstance(ridge=0.1, decay=0.1, bound=3.0)
    low, high = instance.interval()
    assert low == pytest.approx(0.1826, abs=5e-5)
    assert high == 3.0
    assert instance.minimiser() == pytest.approx(0.9487, abs=5e-5)
    grid = torch.linspace(low, high, 2001, dtype=torch.float64)
    curvature = instance.reduced_curvature(grid)
    assert float(curvature.min()) == pytest.approx(0.100, abs=5e-4)
    assert float(instance.reduced_curvature(grid[:1])) == pytest.approx(0.1, abs=1e-9)
    joint = torch.func.jacrev(torch.func.grad(lambda pair: instance.objective(pair[0], pair[1])))(
        torch.zeros(2, dtype=torch.float64)
    )
    assert float(torch.linalg.eigvalsh(joint)[0]) == pytest.approx(-0.90, abs=1e-12)


def test_the_closed_forms_of_the_scalar_instance_equal_autograd():
    instance = ScalarInstance(ridge=0.2, decay=0.3, bound=2.0)
    for body in torch.linspace(-2, 2, 11, dtype=torch.float64):
        head = instance.best_response(body)
        assert float(torch.func.grad(instance.objective, argnums=1)(body, head)) == pytest.approx(
            0, abs=1e-14
        )
        exact(instance.objective(body, head), instance.reduced(body))
        exact(torch.func.grad(instance.reduced)(body), instance.reduced_gradient(body))
        curvature = torch.func.grad(torch.func.grad(instance.reduced))(body)
        exact(curvature, instance.reduced_curvature(body))
        danskin, _ = reduced_gradient(
            StackelbergProblem(instance.objective, instance.best_response), body
        )
        exact(danskin, instance.reduced_gradient(body))


def test_the_minimiser_of_the_scalar_instance_is_stationary_or_at_an_end():
    inside = ScalarInstance(ridge=0.1, decay=0.1)
    at = torch.tensor(inside.minimiser(), dtype=torch.float64)
    assert float(inside.reduced_gradient(at)) == pytest.approx(0, abs=1e-12)
    assert ScalarInstance(ridge=0.1, decay=0.1, bound=0.5).minimiser() == 0.5
    flat = ScalarInstance(ridge=0.5, decay=10.0)
    assert flat.minimiser() == flat.interval()[0]
