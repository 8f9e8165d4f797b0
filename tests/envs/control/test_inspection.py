"""Faults of environments that are named, and mended where they can be, before collecting."""

import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit

from envs.control import inspection
from envs.control.collection import collect
from envs.control.global_chance import drawn_from, global_state
from envs.control.problems import control_problem
from envs.control.truth import monte_carlo_truth

OWN = np.random.default_rng()


class Walk(gymnasium.Env):
    """Moves by chance and is paid its position; ends with probability 0.2."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-np.inf, np.inf, (1,))

    def chance(self):
        return self.np_random.random()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = 10 + self.chance()
        return np.array([self.position], dtype=np.float32), {}

    def step(self, action):
        self.position += 1 + self.chance()
        ended = self.chance() < 0.2
        return np.array([self.position], dtype=np.float32), self.position, ended, False, {}


class NumpyWalk(Walk):
    def chance(self):
        return np.random.random()  # noqa: NPY002


class PythonWalk(Walk):
    def chance(self):
        return random.random()


class TorchWalk(Walk):
    def chance(self):
        return float(torch.rand(()))


class UnseededWalk(Walk):
    def chance(self):
        return OWN.random()


GLOBAL = {"numpy.random": NumpyWalk, "random": PythonWalk, "torch": TorchWalk}


def uniform_notes(problem):
    return [note for note in problem.notes if "uniform random" not in note]


def test_an_environment_with_chance_of_its_own_has_nothing_to_name():
    assert uniform_notes(control_problem(Walk)) == []


@pytest.mark.parametrize("generator", GLOBAL)
def test_chance_of_a_global_generator_is_named_and_follows_from_the_seed(generator):
    problem = control_problem(GLOBAL[generator])
    (note,) = uniform_notes(problem)
    assert f"draws from the global generator of {generator}:" in note
    first = collect(problem, 2, 30, seed=3)
    again = collect(problem, 2, 30, seed=3)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.observation[0], first.observation[1])


@pytest.mark.parametrize("generator", GLOBAL)
def test_streams_with_global_chance_do_not_depend_on_how_many_there_are(generator):
    problem = control_problem(GLOBAL[generator])
    alone, both = collect(problem, 1, 20, seed=0), collect(problem, 2, 20, seed=0)
    assert torch.equal(alone.observation[0], both.observation[0])


def test_an_environment_with_global_chance_has_a_truth():
    problem = control_problem(NumpyWalk, discount=0.5)
    truth = monte_carlo_truth(problem, 24, 24, seed=0, spacing=5)
    # v(x) = x + m + γ(1 − p) v(x + m) with mean move m = 1.5, γ(1 − p) = 0.4, so v = a + bx.
    slope = 1 / (1 - 0.4)
    level = (1.5 + 0.4 * slope * 1.5) / (1 - 0.4)
    expected = level + slope * truth.observation[:, 0]
    assert (truth.standard_error > 0).all()
    distance = ((truth.value - expected) / truth.standard_error).square().mean()
    assert distance < 2


def test_chance_that_no_seed_sets_is_named():
    (note,) = uniform_notes(control_problem(UnseededWalk))
    assert note.startswith("UnseededWalk draws chance that reset(seed=…) does not set")


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_running_statistics_are_frozen_and_named(wrapper):
    problem = control_problem(lambda: TimeLimit(wrapper(Walk()), 20))
    (note,) = uniform_notes(problem)
    assert f"statistics of the wrapper {wrapper.__name__} are frozen" in note
    plain = collect(control_problem(lambda: TimeLimit(Walk(), 20)), 1, 50, seed=0)
    wrapped = collect(problem, 1, 50, seed=0)
    # The statistics of a new environment are a mean of 0 and a variance of 1.
    assert torch.allclose(wrapped.observation, plain.observation)
    assert torch.allclose(wrapped.reward, plain.reward)


def test_running_statistics_that_cannot_be_frozen_are_named():
    class RunningMean:
        value = 0.0

    class Centred(gymnasium.Wrapper):
        def __init__(self, environment):
            super().__init__(environment)
            self.mean = RunningMean()

    problem = control_problem(lambda: Centred(Walk()))
    (note,) = uniform_notes(problem)
    assert "wrapper Centred keeps running statistics that cannot be frozen" in note


def test_global_generators_are_left_as_they_were():
    before = global_state()
    collect(control_problem(NumpyWalk), 1, 5, seed=0)
    control_problem(TorchWalk)
    # The checks of types in these tests draw from `random` themselves.
    assert {"numpy.random", "torch"}.isdisjoint(drawn_from(before, global_state()))


def test_a_slow_environment_is_not_tried_for_long(monkeypatch):
    monkeypatch.setattr(inspection, "_SECONDS", 0.0)
    steps = []

    class Counting(Walk):
        def step(self, action):
            steps.append(action)
            return super().step(action)

    assert uniform_notes(control_problem(Counting)) == []
    assert len(steps) == 2
