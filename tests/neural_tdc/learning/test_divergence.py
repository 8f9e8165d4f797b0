"""Divergence: how large a run is, when it is lost, and what stands in its place."""

import math

import pytest
import torch

from neural_tdc.learning.learner import (
    DIVERGENCE,
    diverged_runs,
    divergence_limit,
    magnitude,
    without,
)
from neural_tdc.types import Parameters


def test_the_magnitude_of_a_run_is_its_largest_parameter_of_any_part_and_shape():
    parameters = Parameters(
        {"scale": torch.tensor([-3.0, 1.0, 0.0]), "w": torch.tensor([[[1.0, 2.0]]] * 3)},
        torch.tensor([[0.0], [-7.0], [math.nan]]),
        ({"v": torch.tensor([[0.5], [0.5], [9.0]])}, torch.zeros(3, 0)),
    )
    assert magnitude(parameters)[:2].tolist() == [3, 7]
    assert bool(magnitude(parameters)[2].isnan())


def test_a_run_may_grow_almost_to_1e5_times_its_initial_maximum_but_at_least_from_one():
    head = torch.tensor([[0.1, -0.2], [3.0, -4.0]])
    parameters = Parameters({}, head, torch.zeros(2, 0))
    assert DIVERGENCE == 1e5
    assert divergence_limit(parameters).tolist() == pytest.approx([1e5, 4e5])


@pytest.mark.parametrize(
    ("value", "lost"),
    [(9.9e4, False), (1e5, True), (-1e6, True), (math.nan, True), (math.inf, True)],
)
def test_a_run_is_lost_at_its_limit_or_where_it_is_not_finite(value, lost):
    parameters = Parameters(
        {"w": torch.tensor([[[0.5]], [[value]]])}, torch.zeros(2, 3), torch.zeros(2, 0)
    )
    assert diverged_runs(parameters, torch.full((2,), 1e5)).tolist() == [False, lost]


def test_lost_runs_are_replaced_by_zeros_and_the_others_kept():
    parameters = Parameters(
        {"w": torch.tensor([[[math.nan, 1.0]], [[2.0, 3.0]]]), "scale": torch.tensor([1.0, 2.0])},
        torch.tensor([[math.inf], [4.0]]),
        torch.zeros(2, 0),
    )
    cleaned = without(parameters, torch.tensor([True, False]))
    assert cleaned.body["w"].tolist() == [[[0, 0]], [[2, 3]]]
    assert cleaned.body["scale"].tolist() == [0, 2]
    assert cleaned.head.tolist() == [[0], [4]]
