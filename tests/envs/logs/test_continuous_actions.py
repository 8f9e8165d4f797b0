"""Logs whose actions are numbers, or several choices a step."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal

from envs.logs.logged_problem import logged_problem
from tests.envs.logs.log_arrays import FOLLOWING, LOG

ACTION = np.linspace(-1, 1, 14).reshape(7, 2)


def near_zero(observation):
    return Normal(torch.zeros(len(observation), 2, dtype=torch.float64), 0.5)


def choices(observation):
    one = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    return Independent(Categorical(one.expand(len(observation), 2, 3)), 1)


def test_ratios_are_those_of_densities_which_may_be_above_1(written):
    density = np.linspace(0.5, 3, 7)
    path = written(action=ACTION, behaviour_probability=density, **FOLLOWING)
    problem = logged_problem(path, 0.9, near_zero)
    expected = np.exp(-2 * (ACTION**2).sum(1)) / (2 * np.pi * 0.25) / density
    np.testing.assert_allclose(problem.transition.ratio[0], expected, rtol=1e-12)
    assert problem.action.shape == (1, 7, 2)


def test_several_choices_a_step_have_the_probability_of_all_of_them(written):
    action = np.array([[0, 0], [1, 2], [2, 1], [0, 1], [1, 1], [2, 0], [0, 2]])
    path = written(action=action, behaviour_probability=np.full(7, 1 / 9), **FOLLOWING)
    ratio = logged_problem(path, 0.9, choices).transition.ratio[0]
    first, second = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    np.testing.assert_allclose(ratio, 9 * first[action[:, 0]] * second[action[:, 1]], rtol=1e-6)


def test_a_discrete_action_may_have_an_axis_of_one(written):
    action = LOG["action"][:, None]
    assert logged_problem(written(action=action), 0.9).action.tolist() == [[0, 1, 2, 0, 2]]


def test_without_actions_the_policy_that_acted_is_evaluated_and_no_other(written):
    path = written(action=None, behaviour_probability=np.full(7, 0.5))
    assert logged_problem(path, 0.9).action is None
    with pytest.raises(ValueError, match="no array action, which the policy near_zero needs"):
        logged_problem(path, 0.9, near_zero)


def test_a_ratio_beyond_float32_is_refused_with_its_row(written):
    def sharp(observation):
        return Normal(torch.as_tensor(ACTION[: len(observation)]), 1e-3)

    path = written(action=ACTION, behaviour_probability=np.full(7, 1e-40), **FOLLOWING)
    with pytest.raises(ValueError, match=r"the ratio in row 0 is .*must fit into float32"):
        logged_problem(path, 0.9, sharp)
