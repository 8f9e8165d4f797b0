"""Several environments that step together: Gymnasium's, MinAtar's, and their saved states."""

import importlib
import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.games.discrete_control import GymnasiumEnvironments, control, minatar
from envs.games.registry import make_environments
from envs.games.saved_state import can_be_saved
from envs.games.stepping import observation_shape


class Counter(gymnasium.Env):
    """Shows how many steps its episode has had; ends after 3, is cut after 5 in odd episodes."""

    observation_space = spaces.Box(0, 100, (2,), dtype=np.float32)
    action_space = spaces.Discrete(4, start=2)

    def __init__(self, longest=3, cut=False):
        self.longest, self.cut, self.steps, self.seen = longest, cut, 0, []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.array([0, 7], dtype=np.float32), {}

    def step(self, action):
        self.seen.append(int(action))
        self.steps += 1
        over = self.steps >= self.longest
        observation = np.array([self.steps, 7], dtype=np.float32)
        return observation, 10.0 * self.steps, over and not self.cut, over and self.cut, {}


def stepped(environments, count):
    steps = []
    for _ in range(count):
        environments.send(np.arange(environments.count) % environments.actions)
        steps.append(environments.receive())
    return steps


@pytest.mark.parametrize("cut", [False, True])
def test_a_game_begins_anew_in_the_step_after_its_end(cut):
    made = []

    def make():
        made.append(Counter(longest=3 + len(made), cut=cut))
        return made[-1]

    environments = GymnasiumEnvironments("counter", make, 2)
    assert environments.reset(0).tolist() == [[0, 7], [0, 7]]
    steps = stepped(environments, 6)
    assert [step.frame[:, 0].tolist() for step in steps] == [
        [1, 1],
        [2, 2],
        [3, 3],
        [0, 4],
        [1, 0],
        [2, 1],
    ]
    assert [step.reward.tolist() for step in steps][2:5] == [[30, 30], [0, 40], [10, 0]]
    ended = [(step.truncated if cut else step.terminated).tolist() for step in steps]
    never = [(step.terminated if cut else step.truncated).any() for step in steps]
    assert ended == [[0, 0], [0, 0], [1, 0], [0, 1], [0, 0], [0, 0]]
    assert not any(never)
    assert [step.reset.tolist() for step in steps] == [
        [0, 0],
        [0, 0],
        [0, 0],
        [1, 0],
        [0, 1],
        [0, 0],
    ]
    # Actions are numbered from 0 here and from 2 there; a reset takes none.
    assert made[0].seen == [2] * 5
    assert made[1].seen == [3] * 5


def test_actions_that_are_not_discrete_are_refused():
    with pytest.raises(ValueError, match="only discrete actions"):
        control("Pendulum-v1", 1)


def test_an_unknown_environment_gives_the_nearest_names():
    with pytest.raises(ValueError, match="CartPole-v1"):
        make_environments("CartPol-v1", 1)


def test_each_environment_has_chance_of_its_own_that_depends_on_seed_and_place():
    two, three = control("CartPole-v1", 2), control("CartPole-v1", 3)
    first, second = two.reset(5), three.reset(5)
    assert np.array_equal(first, second[:2])
    assert not np.array_equal(second[0], second[1])
    assert not np.array_equal(two.reset(6), first)


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
def test_control_problems_go_on_from_a_saved_state_as_if_nothing_had_been(name):
    one, other = control(name, 2), control(name, 2)
    one.reset(3)
    stepped(one, 23)
    state = one.state()
    assert state is not None
    other.load(state)
    for left, right in zip(stepped(one, 60), stepped(other, 60)):
        assert all(np.array_equal(a, b) for a, b in zip(left, right))


class Hidden(Counter):
    """Keeps what its observations depend on where no attribute shows it."""

    def __init__(self):
        super().__init__(longest=1000)
        self._steps = iter(range(10**6))

    def step(self, action):
        observation, *rest = super().step(action)
        return observation + next(self._steps), *rest


def test_an_environment_that_hides_its_state_is_found_by_trial():
    assert can_be_saved(Counter)
    assert not can_be_saved(Hidden)
    environments = GymnasiumEnvironments("hidden", Hidden, 1)
    environments.reset(0)
    assert environments.state() is None


minatar_there = pytest.mark.skipif(
    importlib.util.find_spec("minatar") is None, reason="the package minatar is not installed"
)


@minatar_there
@pytest.mark.parametrize("game", ["Breakout", "Asterix", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatar_shows_bytes_with_the_channel_first_and_can_be_saved(game):
    one, other = minatar(f"MinAtar/{game}", 2), minatar(f"MinAtar/{game}", 2)
    frame = one.reset(1)
    assert frame.dtype == np.uint8
    assert frame.shape == (2, *one.frame_shape)
    assert one.frame_shape[1:] == (10, 10)
    assert set(np.unique(frame)) == {0, 1}
    assert observation_shape(one) == one.frame_shape
    assert one.scale == 1.0
    stepped(one, 37)
    state = one.state()
    assert state is not None
    other.load(state)
    for left, right in zip(stepped(one, 80), stepped(other, 80)):
        assert all(np.array_equal(a, b) for a, b in zip(left, right))


@minatar_there
def test_an_unknown_game_of_minatar_gives_the_nearest_names_and_the_protocol_is_stated():
    with pytest.raises(ValueError, match="nearest names: MinAtar/Breakout-v"):
        minatar("MinAtar/Brakout", 1)
    environments = make_environments("MinAtar/Breakout", 1, sticky_actions=0.25)
    assert environments.protocol["sticky_actions"] == 0.25
    assert environments.protocol["environment"] == "MinAtar/Breakout-v1"
    assert environments.actions == 3
    assert make_environments("MinAtar/Breakout-v0", 1).actions == 6


def test_without_the_package_minatar_the_line_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match="pip install minatar"):
        minatar("MinAtar/Breakout", 1)
