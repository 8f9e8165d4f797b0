import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils import EzPickle
from gymnasium.wrappers import TimeLimit

from envs.control.problems import control_problem
from envs.control.truth import horizon, monte_carlo_truth


class Dying(gymnasium.Env):
    """Gives reward 1 a step and ends at each with probability 0.1."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, np.inf, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, dtype=np.float32), {}

    def chance(self):
        return self.np_random.random()

    def step(self, action):
        self.count += 1
        return np.array([self.count], dtype=np.float32), 1.0, self.chance() < 0.1, False, {}


class Ending(Dying):
    """Gives reward 1 a step and ends after exactly 9."""

    def step(self, action):
        observation, *_ = super().step(action)
        return observation, 1.0, self.count == 9, False, {}


class Reconstructed(Ending, EzPickle):
    """A deep copy of this is a new environment, as with Gymnasium's Box2D and MuJoCo."""

    def __init__(self):
        EzPickle.__init__(self)
        self.count = 100


class Uncopyable(Ending):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle")


def limited(environment, steps):
    return lambda: TimeLimit(environment(), steps)


def ending_value(count, discount):
    return (1 - discount ** (9 - count)) / (1 - discount)


@pytest.mark.parametrize(
    ("discount", "tolerance", "steps"),
    [(0.5, 0.1, 4), (0.1, 1e-4, 5), (0.99, 1e-4, 917), (0.0, 0.1, 1)],
)
def test_the_horizon_is_the_first_power_below_the_tolerance(discount, tolerance, steps):
    assert horizon(discount, tolerance) == steps
    assert discount**steps < tolerance
    assert steps == 1 or discount ** (steps - 1) >= tolerance


def test_there_is_no_horizon_without_discount():
    assert horizon(1.0, 1e-4) is None


def test_the_truth_agrees_with_the_closed_form_where_the_time_limit_would_not():
    discount = 0.95
    truth = monte_carlo_truth(control_problem(limited(Dying, 5), discount=discount), 60, 12, seed=0)
    exact = 1 / (1 - discount * 0.9)
    cut = (1 - (discount * 0.9) ** 5) * exact
    error = truth.standard_error.square().sum().sqrt() / 60
    assert abs(truth.value.mean() - exact) < 3 * error
    assert abs(truth.value.mean() - cut) > 10 * error
    assert truth.observation.shape == (60, 1)
    assert truth.value.dtype == truth.standard_error.dtype == torch.float32
    # The states are those of the limited stream.
    assert set(truth.observation[:, 0].tolist()) == {0, 1, 2, 3, 4}


def test_standard_errors_cover_the_closed_form_as_often_as_they_should():
    truth = monte_carlo_truth(control_problem(limited(Dying, 5), discount=0.9), 80, 20, seed=1)
    deviation = (truth.value - 1 / (1 - 0.9 * 0.9)) / truth.standard_error
    assert 0.8 < deviation.square().mean().sqrt() < 1.3


def test_states_come_from_everywhere_in_episodes_as_long_as_the_spacing():
    class Endless(Dying):
        def chance(self):
            return 1.0

    truth = monte_carlo_truth(control_problem(limited(Endless, 50), discount=0.0), 150, 2, seed=0)
    count = truth.observation[:, 0]
    # Uniform on 0, …, 49: mean 24.5, standard deviation 14.4, and 1.2 for the mean of 150.
    assert abs(count.mean() - 24.5) < 4
    assert abs(count.std() - 14.4) < 2
    assert (truth.value == 1).all()


def test_a_coasting_mountain_car_is_worth_minus_100():
    def coasting(observation):
        return torch.tensor([[0.0, 1.0, 0.0]]).expand(len(observation), 3)

    truth = monte_carlo_truth(control_problem("MountainCar-v0", target=coasting), 3, 2, seed=0)
    assert torch.allclose(truth.value, torch.tensor(-100 * (1 - 0.99**917)))
    assert (truth.standard_error == 0).all()


def test_the_truth_of_a_frozen_lake_solves_its_bellman_equation():
    problem = control_problem("FrozenLake-v1", target="uniform", discount=0.9)
    truth = monte_carlo_truth(problem, 60, 20, seed=2, spacing=7)
    table = problem.make().unwrapped.P
    matrix, reward = np.eye(16), np.zeros(16)
    for state in range(16):
        for action in range(4):
            for chance, following, gain, ended in table[state][action]:
                reward[state] += chance * gain / 4
                matrix[state, following] -= 0.9 * chance / 4 * (not ended)
    exact = torch.from_numpy(np.linalg.solve(matrix, reward))[truth.observation.argmax(1)]
    error = truth.standard_error.square().sum().sqrt() / 60
    assert abs((truth.value - exact).mean()) < 3 * error
    assert (truth.value - exact).square().mean() < 4 * truth.standard_error.square().mean()
    assert truth.observation.argmax(1).unique().numel() > 5


def test_the_target_policy_is_followed_from_the_behaviours_states():
    class Paying(Ending):
        def step(self, action):
            observation, _, terminated, *_ = super().step(action)
            return observation, float(action), terminated, False, {}

    def paid(observation):
        return torch.tensor([[0.0, 1.0]]).expand(len(observation), 2)

    problem = control_problem(Paying, target=paid, behaviour="uniform", discount=0.8)
    truth = monte_carlo_truth(problem, 20, 2, seed=0)
    assert torch.allclose(truth.value, ending_value(truth.observation[:, 0], 0.8))


@pytest.mark.parametrize("environment", [Ending, Reconstructed, Uncopyable])
def test_states_that_cannot_be_copied_are_reached_again(environment):
    truth = monte_carlo_truth(control_problem(limited(environment, 7), discount=0.8), 25, 2, seed=4)
    assert torch.allclose(truth.value, ending_value(truth.observation[:, 0], 0.8))
    assert (truth.standard_error == 0).all()
    assert truth.observation.unique().numel() >= 5


def test_rollouts_of_states_reached_again_have_chances_of_their_own():
    class Both(Dying, EzPickle):
        def __init__(self):
            EzPickle.__init__(self)

    truth = monte_carlo_truth(control_problem(limited(Both, 5), discount=0.9), 40, 10, seed=0)
    error = truth.standard_error.square().sum().sqrt() / 40
    assert error > 0
    assert abs(truth.value.mean() - 1 / (1 - 0.9 * 0.9)) < 3 * error


def test_random_generators_hidden_in_an_environment_are_reseeded():
    class Hidden(Dying):
        def reset(self, *, seed=None, options=None):
            self.box = {"generator": np.random.default_rng(seed)}
            return super().reset(seed=seed)

        def chance(self):
            return self.box["generator"].random()

    truth = monte_carlo_truth(control_problem(limited(Hidden, 5), discount=0.9), 20, 10, seed=0)
    assert (truth.standard_error > 0).all()


def test_an_environment_that_cannot_be_repeated_is_refused():
    class Unrepeatable(Dying):
        made = 0

        def step(self, action):
            type(self).made += 1
            return np.array([self.made], dtype=np.float32), 1.0, False, False, {}

    with pytest.raises(ValueError, match="neither by a deep copy nor by repeating the actions"):
        monte_carlo_truth(control_problem(limited(Unrepeatable, 9)), 3, 2, seed=0)


def test_an_environment_that_truncates_by_itself_is_refused():
    class Truncating(Dying):
        def step(self, action):
            observation, *_ = super().step(action)
            return observation, 1.0, False, self.count == 6, {}

    with pytest.raises(ValueError, match="cuts its episodes by a limit of its own"):
        monte_carlo_truth(control_problem(Truncating), 3, 2, seed=0)


def test_without_discount_rollouts_run_until_they_terminate():
    truth = monte_carlo_truth(control_problem(limited(Ending, 6), discount=1.0), 15, 2, seed=0)
    assert torch.equal(truth.value, 9 - truth.observation[:, 0])


def test_rollouts_that_never_end_are_refused():
    class Endless(Ending):
        def step(self, action):
            return *super().step(action)[:2], False, False, {}

    problem = control_problem(limited(Endless, 6), discount=1.0)
    with pytest.raises(
        ValueError, match=r"6 of 6 rollouts of .* did not terminate within 50 steps"
    ):
        monte_carlo_truth(problem, 3, 2, seed=0, max_episode_steps=50)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    problem = control_problem("CartPole-v1", behaviour="soft")
    first, again, other = (
        monte_carlo_truth(problem, 8, 3, seed, tolerance=0.3) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.observation, other.observation)


def test_progress_hears_of_every_state():
    on_progress = []
    problem = control_problem(limited(Ending, 6))
    monte_carlo_truth(problem, 5, 200, seed=0, progress=on_progress.append)
    assert on_progress == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"states": 0}, "states 0"),
        ({"rollouts": 1}, "rollouts 1: at least 2"),
        ({"tolerance": 0.0}, "tolerance 0.0"),
        ({"spacing": 0}, "spacing 0"),
    ],
)
def test_senseless_numbers_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        monte_carlo_truth(
            control_problem("CartPole-v1"), **{"states": 2, "rollouts": 2, "seed": 0, **wrong}
        )
