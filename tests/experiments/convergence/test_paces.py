"""Split and uniform steps over the first step and the offset."""

import numpy as np
import pytest
import torch

from experiments.convergence.descents import Pace, Population
from experiments.convergence.paces import (
    SPLIT,
    UNIFORM,
    body_errors,
    compare_paces,
    ratio_of_means,
)
from experiments.runs.command_line.program import main


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


def test_a_row_is_printed_for_each_step_and_offset(capsys):
    line = "--instance scalar --first-step 0.1 0.2 --offset 1 --runs 2 --steps 3"
    assert main(compare_paces, line.split()) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    found = [row.split(" | ")[:3] for row in rows]
    assert found == [["| scalar", "0.1", "1"], ["| scalar", "0.2", "1"]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--runs 1", "--runs 1 is not allowed: give a whole number of at least 2"),
        ("--first-step 0.1 -1", "--first-step -1 is not allowed: give a finite number above 0"),
        ("--offset 0", "--offset 0 is not allowed: give a finite number above 0"),
    ],
)
def test_what_cannot_be_is_one_line(capsys, line, said):
    assert main(compare_paces, line.split()) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
