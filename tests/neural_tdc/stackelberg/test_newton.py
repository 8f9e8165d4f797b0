"""Newton's method on many small problems: Moreau gradients and local minima."""

import math

import pytest
import torch
from torch import Tensor

from neural_tdc.randomness import generator
from neural_tdc.stackelberg.moreau import moreau_envelope
from neural_tdc.stackelberg.newton import local_minimum, moreau_gradients
from neural_tdc.stackelberg.problems import reduced_regression


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def double_well(point: Tensor) -> Tensor:
    """Minima at ±1 in the first component, at 3 in the second; a saddle at (0, 3)."""
    return (point[0].square() - 1).square() / 4 + (point[1] - 3).square()


def test_the_moreau_gradients_of_a_quadratic_are_known_in_closed_form():
    root = normal(3, 3)
    hessian, points, smoothing = root @ root.T, normal(5, 3, name="points"), 0.3
    found = moreau_gradients(lambda x: x @ hessian @ x / 2, points, smoothing)
    identity = torch.eye(3, dtype=torch.float64)
    exact(found, points @ torch.linalg.inv(identity + smoothing * hessian) @ hessian)


def test_the_moreau_gradients_agree_with_descent_on_one_point():
    inputs, target = normal(9, 2), normal(9, name="target")

    def reduced(flat: Tensor) -> Tensor:
        return reduced_regression(torch.tanh(inputs @ flat.reshape(2, 3)), target, 0.1)

    points = normal(4, 6, name="points")
    found = moreau_gradients(reduced, points, 0.2)
    for row, point in zip(found, points):
        exact(row, moreau_envelope(reduced, point, 0.2, tolerance=1e-10).gradient, 1e-8)


def test_negative_curvature_does_not_lead_to_a_saddle():
    # Newton's plain step from (0.01, 0) would go to the saddle at (0, 3).
    found = local_minimum(double_well, torch.tensor([0.01, 0.0], dtype=torch.float64))
    exact(found, torch.tensor([1.0, 3.0], dtype=torch.float64))
    found = local_minimum(double_well, torch.tensor([-0.01, 7.0], dtype=torch.float64))
    exact(found, torch.tensor([-1.0, 3.0], dtype=torch.float64))


def test_a_saddle_is_not_taken_for_a_minimum():
    with pytest.raises(ValueError, match="not a strict minimum"):
        local_minimum(double_well, torch.tensor([0.0, 3.0], dtype=torch.float64))


def test_a_function_without_a_minimum_is_said_not_to_converge():
    points = normal(2, 3, name="points")
    with pytest.raises(ValueError, match="Moreau envelope did not converge"):
        moreau_gradients(lambda x: -x.square().sum(), points, 1.0, iterations=5)


def test_many_points_through_a_linear_solve_give_what_one_point_gives():
    # Second derivatives by forward mode would be wrong here under vmap.
    slopes = normal(6, 2, 2, name="slopes")

    def function(point: Tensor) -> Tensor:
        root = (point[:, None, None] * slopes).sum(0)
        system = root @ root.mT + torch.eye(2, dtype=torch.float64)
        return point[:2] @ torch.linalg.solve(system, point[:2])

    points = 0.5 * normal(7, 6, name="points")
    with torch.no_grad():
        found = moreau_gradients(function, points, 0.02)
    for row, point in zip(found, points):
        exact(row, moreau_envelope(function, point, 0.02, tolerance=1e-10).gradient, 1e-7)


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.nan, math.inf])
def test_a_smoothing_that_is_not_above_zero_is_refused(smoothing):
    with pytest.raises(ValueError, match="smoothing"):
        moreau_gradients(double_well, normal(2, 2), smoothing)
