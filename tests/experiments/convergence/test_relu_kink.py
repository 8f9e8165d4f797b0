"""The ReLU regression whose reduced objective is not weakly convex."""

import itertools

import pytest
import torch
from torch import Tensor

from experiments.convergence.relu_kink import (
    kinked_objective,
    right_slope,
    second_difference,
)
from neural_tdc.stackelberg.problems import reduced_objective as reduced
from neural_tdc.stackelberg.problems import regression


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("target", [(1.0, 1.0), (0.5, -2.0)])
@pytest.mark.parametrize("ridge", [0.1, 0.7])
def test_the_one_sided_slopes_at_the_kink_are_those_of_the_closed_form(ridge, target):
    step = 1e-7

    def slope(side: float) -> float:
        moved = kinked_objective(scalar(side * step), ridge, target=target)
        still = kinked_objective(scalar(0.0), ridge, target=target)
        return float(moved - still) / (side * step)

    assert slope(-1) == 0
    assert slope(1) == pytest.approx(right_slope(ridge, target), abs=1e-6)
    assert right_slope(0.5) == -0.25


def test_a_relu_makes_the_reduced_objective_not_weakly_convex_and_a_smooth_activation_does_not():
    def of(activation):
        return [
            second_difference(lambda weight: kinked_objective(weight, 0.1, activation), step)
            for step in (1e-1, 1e-2, 1e-3, 1e-4)
        ]

    kinked, smooth = of(torch.relu), of(torch.nn.functional.softplus)
    # The kink's second difference is slope/t: ten times lower at every tenth of the step.
    for wide, narrow in itertools.pairwise(kinked):
        assert narrow == pytest.approx(10 * wide, rel=0.3)
        assert narrow < 0
    assert kinked[-1] < -4000
    assert max(smooth) - min(smooth) < 1e-2


def test_labels_of_opposite_sign_leave_a_kink_that_points_downwards():
    upwards = second_difference(lambda w: kinked_objective(w, 0.1), 1e-4)
    downwards = second_difference(lambda w: kinked_objective(w, 0.1, target=(1.0, -1.0)), 1e-4)
    assert upwards < -1000
    assert downwards > 1000


def test_one_sample_alone_has_no_kink():
    def one_sample(weight: Tensor) -> Tensor:
        problem = regression(
            lambda body, rows: torch.relu(rows @ body),
            scalar(1.0)[None, None],
            scalar(1.0)[None],
            0.1,
        )
        return reduced(problem, weight[None, None])

    differences = [second_difference(one_sample, step) for step in (1e-2, 1e-4)]
    assert abs(differences[1]) < 100


def test_the_reduced_objective_is_that_of_the_two_samples():
    weight, ridge = scalar(0.8), 0.3
    features = torch.tensor([[0.8], [1.0]], dtype=torch.float64)
    target = torch.tensor([2.0, -0.5], dtype=torch.float64)
    # ½·½ (‖y‖² − (zᵀy)²/(‖z‖² + 2λ))
    inner = float(features[:, 0] @ target)
    expected = (4.25 - inner**2 / (1.64 + 0.6)) / 4
    assert float(kinked_objective(weight, ridge, target=(2.0, -0.5))) == pytest.approx(expected)
