"""values.png: what is drawn, over which components, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.task import Task
from experiments.evaluate_policy.results.value_figure import value_figure
from experiments.evaluate_policy.results.values_at import (
    check_components,
    data_observations,
    drawn_components,
    influences,
    values_at,
)
from experiments.runs.command_line.checks import UsageError
from neural_tdc.learning.experience import Experience
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.types import Transition
from neural_tdc.value_file import description
from neural_tdc.value_function import ValueFunction

TIME = 300


def value_of(heads, diverged=None):
    """Return V = θᵀ(raw observation), one head a run."""
    head = torch.tensor(heads).double()
    lost = torch.zeros(len(head), dtype=torch.bool) if diverged is None else torch.tensor(diverged)
    saved = description({}, head, lost, make=None, observation_shape=(head.shape[1],))
    return ValueFunction(saved, None)


def task_of(width=4, truth=False, resampled=""):
    draws = torch.Generator().manual_seed(0)
    observation = torch.randn(1, TIME, width, generator=draws)
    zero = torch.zeros(1, TIME)
    transitions = Transition(observation, zero, zero, observation, zero + 1, zero)
    run = torch.zeros(2, dtype=torch.int64)
    known = None
    if truth:
        states = torch.randn(20, width, generator=draws)
        known = Truth(states, torch.full((20,), 0.05), states.double().sum(1), 0.04)
    return Task(
        "toy",
        Experience(transitions, None, run, run),
        observation[0],
        None,
        True,
        None,
        None,
        False,
        None,
        None,
        (),
        known,
        resampled,
    )


HEADS = [[0.0, 3.0, 0.1, -1.0], [0.0, 5.0, 0.1, -1.0]]


def test_values_are_means_over_runs_with_their_spread():
    observation = torch.tensor([[1.0, 1.0, 0.0, 2.0]])
    at = values_at(value_of(HEADS), observation, task_of())
    assert at.learned.tolist() == [2.0]
    assert at.spread.tolist() == pytest.approx([2**0.5])
    assert at.true is None


def test_with_resampled_data_values_are_those_of_the_data_as_they_are():
    observation = torch.tensor([[1.0, 1.0, 0.0, 2.0]])
    at = values_at(value_of(HEADS), observation, task_of(resampled="9 episodes"))
    assert at.learned.tolist() == [1.0]


def test_observations_are_drawn_in_raw_units():
    task = task_of()._replace(shift=torch.tensor([1.0, 2, 3, 4]), scale=torch.full((4,), 2.0))
    at = values_at(value_of([[1.0, 0, 0, 0]]), torch.ones(1, 4), task)
    assert at.observation.tolist() == [[3, 4, 5, 6]]


def test_influence_is_how_much_v_changes_with_a_component():
    task = task_of()
    found = influences(value_of(HEADS), data_observations(task), task)
    # V changes by θ_i (x_i − x'_i), whose root mean square is θ_i √2 for unit deviations.
    assert found == pytest.approx(np.array([0, 4, 0.1, 1]) * 2**0.5, rel=0.15)


def test_components_are_the_most_influential_two_or_those_asked_for():
    task = task_of()
    observation = data_observations(task)
    assert drawn_components(value_of(HEADS), observation, task, None) == [1, 3]
    assert drawn_components(value_of(HEADS), observation, task, (2, 0)) == [2, 0]


@pytest.mark.parametrize("truth", [True, False])
def test_a_figure_is_drawn_with_and_without_a_truth(tmp_path, truth):
    path = tmp_path / "values.png"
    value_figure(path, value_of(HEADS), task_of(truth=truth), "title")
    assert path.stat().st_size > 10_000


def test_one_component_is_drawn_along_an_axis(tmp_path):
    value_figure(tmp_path / "values.png", value_of([[1.0]]), task_of(1, truth=True), "title")
    assert (tmp_path / "values.png").stat().st_size > 5_000


def test_runs_that_all_diverged_have_no_values():
    with pytest.raises(ValueError, match="all runs diverged"):
        value_figure(Path("nowhere.png"), value_of(HEADS, [True, True]), task_of(), "title")


def test_components_that_there_are_not_are_refused():
    check_components((0, 3), task_of())
    with pytest.raises(UsageError, match="have 4 components, numbered from 0 to 3"):
        check_components((0, 4), task_of())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--problem boyan --value-dimensions 0 1", "--value-dimensions 0 1 has no effect"),
        ("--problem MountainCar-v0 --value-dimensions 1 1", "--value-dimensions 1 1: give two"),
        ("--problem MountainCar-v0 --value-dimensions 0", "--value-dimensions 0: give two"),
    ],
)
def test_dimensions_that_cannot_be_drawn_are_refused_in_one_line(evaluate, tmp_path, line, said):
    outcome = evaluate(line)
    assert outcome.status == 2
    assert said in outcome.error
    assert len(outcome.lines) == 1, outcome.error
    assert not (tmp_path / "runs").exists()


def test_a_run_draws_its_values_and_says_where(evaluate, tmp_path):
    outcome = evaluate(
        "--problem boyan --rule td --runs 2 --steps 20 --compile off --out run", figure=True
    )
    assert outcome.status == 0, outcome.error
    assert (tmp_path / "run/values.png").stat().st_size > 5_000
    assert "values: run/values.png" in outcome.out
