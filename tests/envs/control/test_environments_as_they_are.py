"""Environments under their own names, with observations of several parts, that cut themselves."""

import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.policy_evaluation import control_task
from envs.control.branches import NoTruthError
from envs.control.collection import collect
from envs.control.environments import observation_encoder, parts_left_out
from envs.control.problems import control_problem
from envs.control.truth import monte_carlo_truth
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters


class Sentence(gymnasium.Space):
    """A text of any length, as MiniGrid's missions are."""

    def sample(self, mask=None, probability=None):
        return "go"


class Clock(gymnasium.Env):
    """Pays 1 a step, never terminates, and cuts its own episodes after `limit` steps."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)
    name = "max_steps"

    def __init__(self, limit=7):
        setattr(self, self.name, limit)

    @property
    def limit(self):
        return getattr(self, self.name)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, dtype=np.float32), {}

    def reward(self):
        return 1.0

    def step(self, action):
        self.time += 1
        observation = np.array([self.time % 3], dtype=np.float32)
        return observation, self.reward(), False, self.time >= self.limit, {}


class SecretClock(Clock):
    """Calls its limit by an unusual name."""

    name = "patience"


class HurryingClock(Clock):
    """Pays less the later it is within the limit, as MiniGrid does."""

    def reward(self):
        return 1 - self.time / self.limit


def test_a_dict_is_flattened_part_by_part_without_what_is_no_number():
    space = spaces.Dict(
        picture=spaces.Box(0, 255, (2, 1, 3), dtype=np.uint8),
        place=spaces.Tuple([spaces.Discrete(3, start=5), Sentence()]),
        task=Sentence(),
    )
    picture = np.arange(6, dtype=np.uint8).reshape(2, 1, 3)
    shape, encode = observation_encoder("NAME", space)
    encoded = encode({"picture": picture, "place": (6, "left"), "task": "go"})
    assert shape == (9,)
    assert encoded.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 0]
    assert parts_left_out(space) == ["place.1", "task"]


def test_dicts_of_numbers_are_what_gymnasium_flattens_them_to():
    space = spaces.Dict(
        b=spaces.Dict(c=spaces.MultiDiscrete([2, 3]), a=spaces.Text(4)), a=spaces.Box(-1, 1, (2, 2))
    )
    sample = space.sample()
    shape, encode = observation_encoder("NAME", space)
    expected = spaces.flatten(space, sample)
    assert shape == expected.shape
    assert np.array_equal(encode(sample), expected.astype(np.float32))


def test_a_part_without_a_fixed_size_is_refused_by_name():
    space = spaces.Dict(a=spaces.Discrete(2), b=spaces.Dict(c=spaces.Sequence(spaces.Discrete(2))))
    with pytest.raises(
        ValueError, match=r"^NAME has the observation part b\.c, Sequence.*no fixed size"
    ):
        observation_encoder("NAME", space)


def test_observations_without_any_number_are_refused():
    with pytest.raises(ValueError, match=r"NAME has .*, which holds no numbers"):
        observation_encoder("NAME", spaces.Tuple([Sentence(), Sentence()]))


@pytest.mark.parametrize("name", ["MinAtar/Breakout", "MinAtar/Breakout-v1"])
def test_minatar_goes_by_its_own_names(name):
    pytest.importorskip("minatar")
    problem = control_problem(name, discount=0.9)
    transition = collect(problem, 2, 40, seed=0)
    assert transition.observation.shape == (2, 40, 10, 10, 4)
    assert set(transition.observation.unique().tolist()) == {0.0, 1.0}
    truth = monte_carlo_truth(problem, 4, 16, seed=0, tolerance=0.1)
    # A ball that falls past the paddle ends the game: not every return is the same.
    assert (truth.value >= 0).all()
    assert truth.standard_error.max() > 0


def test_minigrid_goes_by_its_own_names_and_names_what_is_left_out():
    pytest.importorskip("minigrid")
    problem = control_problem("MiniGrid-Empty-5x5-v0")
    assert "mission of the observations of MiniGrid-Empty-5x5-v0 holds no numbers" in " ".join(
        problem.notes
    )
    transition = collect(problem, 1, 130, seed=0)
    assert transition.observation.shape == (1, 130, 4 + 7 * 7 * 3)
    # Its limit of 100 steps is part of its rewards, and cannot be taken off.
    with pytest.raises(NoTruthError, match="cuts its episodes by a limit of its own"):
        monte_carlo_truth(problem, 4, 2, seed=0)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(ValueError, match=r"needs the package minigrid.*pip install minigrid"):
        control_problem("MiniGrid-NoSuchThing-v0")


def test_a_limit_of_an_environment_s_own_is_raised_for_the_truth():
    truth = monte_carlo_truth(control_problem(Clock, discount=0.9), 5, 2, seed=0)
    assert torch.allclose(truth.value, torch.tensor(10.0), atol=2e-3)


@pytest.mark.parametrize("clock", [SecretClock, HurryingClock])
def test_a_limit_that_cannot_be_raised_leaves_no_truth(clock):
    with pytest.raises(NoTruthError, match=f"{clock.__name__} cuts its episodes"):
        monte_carlo_truth(control_problem(clock, discount=0.9), 5, 2, seed=0)


def errors(task):
    head = torch.zeros(2, 1, dtype=torch.float64)
    rule = RULES["tdc"]
    population = Parameters({}, head, {name: torch.zeros_like(head) for name in rule.auxiliaries})
    return task.evaluator(given_features, rule)(population)


@pytest.mark.parametrize(
    ("clock", "states", "why"),
    [
        (SecretClock, 5, "SecretClock cuts its episodes by a limit of its own"),
        (Clock, 0, "without a truth of Clock"),
    ],
)
def test_without_a_truth_is_measured_as_a_log_is(clock, states, why):
    problem = control_problem(clock, "uniform", discount=0.9)
    task = control_task(
        problem, runs=2, transitions=9, seed=0, states=states, rollouts=2, held_out_size=40
    )
    assert task.truth is None
    assert task.notes[-1].startswith(why)
    assert task.notes[-1].endswith("what needs no truth is measured, on held-out transitions")
    measured = errors(task)
    assert "error/rmsve" not in measured
    # At V = 0 every TD error is the reward.
    assert torch.allclose(measured["error/rmstde"], torch.ones(2, dtype=torch.float64))
