"""Steps that decay by powers, and slopes."""

import pytest
import torch

from experiments.convergence.rates import log_log_slope, power_steps


def test_power_steps_begin_at_the_first_step_and_decay_by_their_exponents():
    exponents = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    found = power_steps(0.8, exponents, 4.0, torch.tensor([0, 4, 12, 60]))
    # (h + k)/h = 1, 2, 4, 16
    expected = [
        [0.8, 0.8, 0.8],
        [0.4, 0.8 / 2**0.5, 0.8],
        [0.2, 0.4, 0.8],
        [0.05, 0.2, 0.8],
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_slope_of_a_power_is_its_exponent_whatever_its_factor():
    steps = torch.tensor([10.0, 30.0, 70.0, 1000.0, 2000.0], dtype=torch.float64)
    errors = torch.stack([7 * steps**-0.4, 1e-9 * steps**-1, steps**0.5], 1)
    found = log_log_slope(steps, errors)
    torch.testing.assert_close(found, torch.tensor([-0.4, -1.0, 0.5], dtype=torch.float64))
    assert log_log_slope(steps, errors[:, 0]).shape == ()


def test_a_slope_is_the_least_squares_line():
    # logarithms to the base e: (0, 0), (1, 1), (2, 5): the slope is 5/2
    steps = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).exp()
    errors = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64).exp()
    assert float(log_log_slope(steps, errors)) == pytest.approx(2.5)


@pytest.mark.parametrize("steps", [[1.0], [0.0, 1.0], [-1.0, 2.0]])
def test_steps_that_have_no_slope_are_refused(steps):
    with pytest.raises(ValueError, match="at least two steps"):
        log_log_slope(torch.tensor(steps), torch.ones(len(steps)))
