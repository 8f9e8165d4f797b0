"""MuJoCo's environments: their states are copied exactly, simulator included."""

import pytest
import torch
from torch.distributions import Normal

from envs.control import branches
from envs.control.problems import control_problem
from envs.control.truth import monte_carlo_truth

pytest.importorskip("mujoco", reason="the extra mujoco is not installed")
pytest.importorskip("imageio", reason="the extra mujoco is not installed")


def pushing(observation):
    return Normal(-2 * observation[:, 1:2].float(), 0.3)


def refused(*_):
    raise RuntimeError


def test_a_truth_by_copies_of_the_simulator_is_that_of_episodes_lived_again(monkeypatch, tmp_path):
    # MuJoCo writes a log file into the present folder.
    monkeypatch.chdir(tmp_path)
    problem = control_problem("InvertedPendulum-v5", pushing, discount=0.9)
    assert problem.notes == ()
    settings = {"states": 4, "rollouts": 3, "seed": 0, "tolerance": 0.1, "spacing": 6}
    with monkeypatch.context() as patch:
        patch.setattr(branches, "_replayed", refused)
        copied = monte_carlo_truth(problem, **settings)
    monkeypatch.setattr(branches, "_copied", refused)
    replayed = monte_carlo_truth(problem, **settings)
    assert torch.equal(copied.value, replayed.value)
    assert copied.standard_error.max() > 0
