"""One game with stacks of frames as a Gymnasium environment."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.games.discrete_control import GymnasiumEnvironments
from envs.games.single_game import SingleGame


class Drawn(gymnasium.Env):
    """Shows the number of its steps and a drawn number; ends after three steps."""

    observation_space = spaces.Box(0, 100, (2,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def _shown(self):
        return np.array([self.steps, self.np_random.integers(100)], dtype=np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action):
        self.steps += 1
        return self._shown(), 2.5, self.steps == 3, False, {}


class Stacked(GymnasiumEnvironments):
    """Three frames make an observation."""

    stack = 3


def game(count=1):
    return SingleGame(lambda: Stacked("drawn", Drawn, count))


def test_a_stack_begins_with_zeros_and_moves_by_a_frame_a_step():
    env = game()
    assert env.observation_space.shape == (6,)
    assert env.reset(seed=3)[0][::2].tolist() == [0, 0, 0]
    seen = [env.step(1) for _ in range(3)]
    assert [step[0][::2].tolist() for step in seen] == [[0, 0, 1], [0, 1, 2], [1, 2, 3]]
    assert [step[1:4] for step in seen] == [(2.5, False, False)] * 2 + [(2.5, True, False)]
    assert env.reset(seed=3)[0][:4].tolist() == [0, 0, 0, 0]


def test_a_game_depends_on_its_seed_and_a_reset_without_one_draws_another():
    one, two = game(), game()
    assert np.array_equal(one.reset(seed=5)[0], two.reset(seed=5)[0])
    assert np.array_equal(one.step(0)[0], two.step(0)[0])
    firsts = [one.reset()[0][-1] for _ in range(6)]
    assert len(set(firsts)) > 1
    assert [two.reset()[0][-1] for _ in range(6)] == firsts


def test_several_games_are_refused():
    with pytest.raises(ValueError, match="one game is needed, not 2"):
        game(2)
