"""The Moreau envelope."""

import math

import pytest
import torch
from torch import Tensor

from experiments.convergence.scalar_instance import ScalarInstance
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.moreau import moreau_envelope, scalar_moreau_envelope
from neural_tdc.stackelberg.problems import reduced_regression

INSTANCE = ScalarInstance()


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def test_the_envelope_of_a_quadratic_is_known_in_closed_form():
    # Φ = ½ xᵀHx: Ŵ = (I + τH)⁻¹W, ∇Φ_τ = H Ŵ
    root = normal(4, 4)
    hessian = root @ root.T
    point, smoothing = normal(4, name="point"), 0.3
    found = moreau_envelope(lambda x: x @ hessian @ x / 2, point, smoothing)
    expected = torch.linalg.solve(torch.eye(4, dtype=torch.float64) + smoothing * hessian, point)
    torch.testing.assert_close(found.minimiser, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.gradient, hessian @ expected, rtol=0, atol=1e-8)
    value = expected @ hessian @ expected / 2 + (expected - point).square().sum() / (2 * smoothing)
    assert float(found.value) == pytest.approx(float(value), abs=1e-12)
    assert found.residual <= 1e-9


def test_the_envelope_of_the_absolute_value_is_the_huber_function():
    points = torch.tensor([-2.0, -0.3, 0.0, 0.1, 0.5, 3.0], dtype=torch.float64)
    found = scalar_moreau_envelope(torch.abs, points, 0.5, -10.0, 10.0)
    huber = torch.where(points.abs() <= 0.5, points.square() / (2 * 0.5), points.abs() - 0.25)
    torch.testing.assert_close(found.value, huber, rtol=0, atol=1e-12)
    slope = torch.where(points.abs() <= 0.5, points / 0.5, points.sign())
    torch.testing.assert_close(found.gradient, slope, rtol=0, atol=1e-6)


def test_the_envelope_lies_below_the_function_and_touches_it_at_the_minimum():
    low, high = INSTANCE.interval()
    points = torch.linspace(low, high, 31, dtype=torch.float64)
    found = scalar_moreau_envelope(INSTANCE.reduced, points, 0.4, low, high)
    assert bool((found.value <= INSTANCE.reduced(points) + 1e-15).all())
    least = torch.tensor([INSTANCE.minimiser()], dtype=torch.float64)
    at_least = scalar_moreau_envelope(INSTANCE.reduced, least, 0.4, low, high)
    assert float(at_least.value) == pytest.approx(float(INSTANCE.reduced(least)), abs=1e-14)
    assert float(at_least.gradient) == pytest.approx(0, abs=1e-6)


def test_the_gradient_is_that_of_the_envelope_itself():
    low, high = INSTANCE.interval()
    points, step = torch.linspace(0.3, 2.5, 9, dtype=torch.float64), 1e-4

    def value(at: Tensor) -> Tensor:
        return scalar_moreau_envelope(INSTANCE.reduced, at, 0.4, low, high).value

    found = scalar_moreau_envelope(INSTANCE.reduced, points, 0.4, low, high)
    central = (value(points + step) - value(points - step)) / (2 * step)
    torch.testing.assert_close(found.gradient, central, rtol=0, atol=1e-6)


def test_descent_and_golden_section_agree_inside_and_at_an_active_constraint():
    low, high = INSTANCE.interval()
    points = torch.tensor([0.05, low, 0.9, 2.0, 3.4], dtype=torch.float64)
    # near √(λ/3) with a small bound the constraint is active from above as well
    for end in (high, 0.6):
        section = scalar_moreau_envelope(INSTANCE.reduced, points, 0.4, low, end)
        for index, point in enumerate(points):
            descent = moreau_envelope(
                INSTANCE.reduced, point, 0.4, projection=lambda w, end=end: w.clamp(low, end)
            )
            torch.testing.assert_close(descent.value, section.value[index], rtol=0, atol=1e-13)
            torch.testing.assert_close(
                descent.minimiser, section.minimiser[index], rtol=0, atol=1e-7
            )
    assert float(section.minimiser[-1]) == 0.6


def test_stationary_points_of_a_constrained_problem_have_no_envelope_gradient():
    # min −x on [0, 1] is reached at 1, where the gradient of the function is −1
    found = moreau_envelope(
        lambda x: -x.sum(),
        torch.ones(3, dtype=torch.float64),
        0.5,
        projection=lambda x: x.clamp(0, 1),
    )
    assert float(found.gradient.abs().max()) == 0


def test_the_envelope_of_a_reduced_regression_satisfies_its_optimality_condition():
    inputs, target = normal(9, 5), normal(9, name="target")

    def reduced(weight: Tensor) -> Tensor:
        return reduced_regression(torch.tanh(inputs @ weight), target, 0.1)

    point, smoothing = normal(5, 3), 0.2
    found = moreau_envelope(reduced, point, smoothing)
    # ∇Φ(Ŵ) = (W − Ŵ)/τ
    torch.testing.assert_close(
        torch.func.grad(reduced)(found.minimiser), found.gradient, rtol=0, atol=1e-8
    )
    assert float(found.value) <= float(reduced(point))


def test_a_kink_is_no_hindrance_to_the_golden_section():
    # Φ = max(0, −x), τ = ½: from −0.2 the minimiser is the kink itself, Ŵ = 0
    found = scalar_moreau_envelope(
        lambda x: torch.relu(-x),
        torch.tensor([-0.2, 0.0, 0.2], dtype=torch.float64),
        0.5,
        -1.0,
        1.0,
    )
    expected = torch.tensor([-0.4, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.nan, math.inf])
def test_a_smoothing_that_is_not_above_zero_is_refused(smoothing):
    point = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="smoothing"):
        moreau_envelope(lambda x: x.sum(), point, smoothing)
    with pytest.raises(ValueError, match="smoothing"):
        scalar_moreau_envelope(torch.abs, point, smoothing, 0.0, 1.0)


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match="empty"):
        scalar_moreau_envelope(torch.abs, torch.zeros(1), 0.5, 1.0, 1.0)


def test_an_inner_problem_without_a_minimum_is_said_not_to_converge():
    # −x² is 2-weakly convex: τ = 1 is not below ½
    with pytest.raises(ValueError, match="did not converge"):
        moreau_envelope(
            lambda x: -x.square().sum(), torch.ones(2, dtype=torch.float64), 1.0, iterations=50
        )
