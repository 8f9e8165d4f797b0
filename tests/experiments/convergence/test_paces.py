"""Split and uniform steps over the first step and the offset."""

import numpy as np
import pytest
import torch

from experiments.convergence.descents import Pace, Population
from experiments.convergence.paces import SPLIT, UNIFORM, body_errors, ratio_of_means


def test_errors_are_distances_to_the_nearest_minimum_after_the_last_update():
    found = body_errors("scalar", Pace(0.5, 20.0), runs=3, steps=40)
    population = Population("scalar", Pace(0.5, 20.0), 3, 0)
    population.advance(40)
    distance = (population.parameters.body[..., 0] - population.instance.minimiser).square()
    torch.testing.assert_close(torch.from_numpy(found), distance)
    assert found.shape == (3, 3)
    assert SPLIT != UNIFORM


def test_a_ratio_of_means_is_one_number_with_an_interval_around_it():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.5])
    ratio, low, high = ratio_of_means(first, second)
    assert ratio == pytest.approx(6 / 12.5)
    assert low < ratio < high < 0.6
