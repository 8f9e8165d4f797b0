"""Continuous actions: how they are drawn, bounded and weighted, on a system with exact values."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from torch.distributions import Beta, Categorical, Independent, Normal, Uniform

from agents.policy_evaluation import control_task
from envs.control.collection import collect
from envs.control.problems import control_problem
from envs.control.recording import record
from envs.control.truth import monte_carlo_truth
from tests.envs.control.lqr import COVARIANCE, GAIN, LinearSystem, exact_value, gaussian, wider


class Levers(gymnasium.Env):
    """Two levers between bounds of their own; shows the last action and pays its sum."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 3.0]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return action.astype(np.float32), float(action.sum()), False, False, {}


def limited_system():
    return TimeLimit(LinearSystem(), 25)


def normal(mean, deviation):
    def policy(observation):
        return Normal(torch.tensor(mean).expand(len(observation), 2), deviation)

    return policy


class Own:
    """Samples with the generator that it is given, and knows its density."""

    def sample(self, observation, generator):
        return torch.randn(len(observation), 2, generator=generator)

    def log_probability(self, observation, action):
        return Normal(0.0, 1.0).log_prob(action).sum(1)


def beta(observation):
    rows = torch.ones(len(observation), 2)
    return Independent(Beta(2 * rows, 3 * rows), 1)


def test_the_truth_of_the_linear_system_is_its_exact_value():
    truth = monte_carlo_truth(
        control_problem(limited_system, gaussian, discount=0.8), 40, 64, seed=0, tolerance=1e-5
    )
    exact = exact_value(0.8)(truth.observation.double().numpy())
    distance = (truth.value.numpy() - exact) / truth.standard_error.numpy()
    assert np.abs(distance).max() < 4
    assert 0.5 < np.square(distance).mean() < 1.7


def test_off_policy_the_weighted_bellman_equation_holds_at_the_exact_value():
    problem = control_problem(limited_system, gaussian, wider, discount=0.8)
    stream = collect(problem, 4, 5_000, seed=0)
    value = exact_value(0.8)
    here, after = (
        value(leaf.flatten(0, 1).double().numpy())
        for leaf in (stream.observation, stream.next_observation)
    )
    ratio, reward = stream.ratio.flatten().double().numpy(), stream.reward.flatten().numpy()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))
    error = reward + 0.8 * after - here
    for test in (np.ones_like(here), here):
        weighted = ratio * error * test
        assert abs(weighted.mean()) < 4 * weighted.std() / np.sqrt(len(ratio))
    # Without the ratios it does not hold: the behaviour is wider.
    assert abs(error.mean()) > 10 * error.std() / np.sqrt(len(ratio))


def test_least_squares_on_the_weighted_stream_finds_the_exact_value():
    problem = control_problem(limited_system, gaussian, wider, discount=0.8)
    stream = collect(problem, 4, 5_000, seed=1)

    def quadratic(leaf):
        first, second = leaf.flatten(0, 1).double().unbind(1)
        return torch.stack([first**2, first * second, second**2, torch.ones_like(first)], 1)

    here, after = quadratic(stream.observation), quadratic(stream.next_observation)
    weighted = here * stream.ratio.flatten().double()[:, None]
    matrix = weighted.T @ (here - 0.8 * after)
    found = torch.linalg.solve(matrix, weighted.T @ stream.reward.flatten().double())
    exact = exact_value(0.8)
    (p, q), (_, r) = exact.matrix.tolist()
    expected = -torch.tensor([p, 2 * q, r, exact.constant], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=0.1, atol=0.1)
    # Without the ratios it is the value of the wider policy.
    plain = torch.linalg.solve(
        here.T @ (here - 0.8 * after), here.T @ stream.reward.flatten().double()
    )
    assert abs(plain[3] + exact_value(0.8, covariance=2 * COVARIANCE).constant) < 0.1
    assert abs(plain[3] - expected[3]) > 0.3


def test_the_ratio_is_that_of_the_densities():
    problem = control_problem(Levers, normal([0.0, 1.0], 0.5), normal([0.0, 1.0], 0.6))
    recording = record(problem, 1, 300, seed=0, purpose="stream")
    action = torch.from_numpy(recording.actions[0])
    inside = (action > torch.tensor([-1.0, 0.0])).all(1) & (action < torch.tensor([1.0, 3.0])).all(
        1
    )
    assert 100 < inside.sum() < 300
    mean = torch.tensor([0.0, 1.0])
    logs = Normal(mean, 0.5).log_prob(action) - Normal(mean, 0.6).log_prob(action)
    expected = logs.sum(1).exp().float()
    assert torch.allclose(recording.transition.ratio[0][inside], expected[inside], rtol=1e-5)


def test_actions_reach_the_environment_within_its_bounds():
    recording = record(control_problem(Levers, normal([0.0, 0.0], 2.0)), 2, 50, 0, "stream")
    assert recording.actions.shape == (2, 50, 2)
    assert recording.actions.min(axis=(0, 1)).tolist() == [-1.0, 0.0]
    assert recording.actions.max(axis=(0, 1))[0] == 1.0
    shown = recording.transition.next_observation.double().numpy()
    assert np.allclose(shown, recording.actions)


def test_the_uniform_policy_fills_the_bounds():
    actions = record(control_problem(Levers), 1, 2_000, 0, "stream").actions[0]
    assert np.allclose(actions.mean(0), [0.0, 1.5], atol=0.1)
    assert np.allclose(actions.std(0), [2 / np.sqrt(12), 3 / np.sqrt(12)], atol=0.05)


POLICIES = {"normal": normal([0.1, 1.0], 0.5), "beta": beta, "own": Own()}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stream_depends_on_its_own_seed_alone(policy):
    problem = control_problem(Levers, POLICIES[policy])
    torch.manual_seed(1)
    alone = collect(problem, 1, 12, seed=3)
    torch.manual_seed(2)
    both = collect(problem, 3, 9, seed=3)
    assert torch.equal(alone.next_observation[0, :9], both.next_observation[0])
    assert not torch.equal(both.next_observation[0], both.next_observation[1])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_number_of_processes_changes_no_truth(policy):
    problem = control_problem(Levers, POLICIES[policy], discount=0.5)
    one, two = (monte_carlo_truth(problem, 6, 4, 0, 0.1, workers=count) for count in (1, 2))
    assert torch.equal(one.value, two.value)
    assert one.standard_error.min() > 0


def test_beta_and_own_policies_draw_what_they_should():
    actions = record(control_problem(Levers, beta), 1, 1_500, 0, "stream").actions[0]
    assert np.allclose(actions.mean(0), 0.4, atol=0.02)
    drawn = record(control_problem(Levers, Own()), 1, 1_500, 0, "stream").actions[0]
    assert abs(drawn[:, 0].mean()) < 0.08


def test_an_own_density_weights_like_the_distribution():
    narrow = normal([0.0, 0.0], 0.5)
    by_own = collect(control_problem(Levers, narrow, Own()), 1, 40, seed=0)
    assert (by_own.ratio > 0).all()
    assert by_own.ratio.std() > 0.5


def test_ratios_are_limited_and_counted():
    problem = control_problem(
        Levers, normal([0.0, 0.0], 0.5), normal([0.0, 0.0], 1.0), ratio_limit=1.5
    )
    free = collect(problem._replace(ratio_limit=np.inf), 1, 200, seed=0).ratio
    task = control_task(problem, runs=1, transitions=200, seed=0, states=0, held_out_size=20)
    assert torch.equal(task.experience.transitions.ratio, free.clamp(max=1.5))
    limited = int((free > 1.5).sum())
    assert limited > 20
    assert task.notes[-1].endswith(f"{limited} limited to 1.5")


def test_a_deterministic_policy_is_evaluated_on_policy():
    def steady(observation):
        return observation @ torch.from_numpy(GAIN).float().T

    problem = control_problem(limited_system, steady, discount=0.8)
    truth = monte_carlo_truth(problem, 20, 64, seed=0, tolerance=1e-5)
    exact = exact_value(0.8, covariance=np.zeros((3, 3)))(truth.observation.double().numpy())
    distance = (truth.value.numpy() - exact) / truth.standard_error.numpy()
    assert np.abs(distance).max() < 4


def test_a_categorical_is_a_policy_for_discrete_actions():
    def leaning(observation):
        return Categorical(logits=torch.stack([observation[:, 2], -observation[:, 2]], 1))

    by_rows = lambda observation: leaning(observation).probs  # noqa: E731
    expected = collect(control_problem("CartPole-v1", by_rows), 2, 30, seed=0)
    given = collect(control_problem("CartPole-v1", leaning), 2, 30, seed=0)
    assert all(map(torch.equal, given, expected))


def test_an_object_may_sample_discrete_actions():
    class Coin:
        def sample(self, observation, generator):
            return torch.randint(2, (len(observation),), generator=generator)

        def log_probability(self, observation, action):
            return torch.full((len(observation),), 0.5).log()

    off = collect(control_problem("CartPole-v1", "default", Coin()), 2, 60, seed=0)
    assert torch.allclose(off.ratio.unique(), torch.tensor([0.3, 1.7]))


REFUSED = {
    "no density of actions alone": (
        lambda observation: torch.zeros(len(observation), 2),
        normal([0.0, 1.0], 0.5),
        "has no density: it returns actions and no distribution",
    ),
    "no log_probability": (
        type("Blind", (), {"sample": lambda self, seen, source: torch.zeros(len(seen), 2)})(),
        normal([0.0, 1.0], 0.5),
        r"policy Blind has no log_probability\(observation, action\)",
    ),
    "another shape": (
        normal([0.0, 1.0], 0.5),
        lambda observation: Normal(torch.zeros(len(observation), 3), 1.0),
        r"returned \[3, 3\]; for the actions of Levers it must return a torch.distributions",
    ),
    "no tensor": (lambda observation: "left", None, r"returned \['str'\]; for the actions"),
    "not finite": (
        lambda observation: torch.full((len(observation), 2), torch.inf),
        None,
        "it must give finite actions",
    ),
    "no forward": (lambda observation: observation @ torch.zeros(5, 2), None, "failed on obs"),
    "chance of its own": (
        lambda observation: torch.rand(len(observation), 2),
        None,
        "returned different answers for the same observation",
    ),
    "failing sample": (
        type("Broken", (), {"sample": lambda self, seen, source: seen.nothing})(),
        None,
        "policy Broken failed to sample .* AttributeError",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_that_cannot_act_is_refused_before_anything_is_collected(case):
    target, behaviour, said = REFUSED[case]
    with pytest.raises(ValueError, match=said) as caught:
        control_problem(Levers, target, behaviour)
    assert "\n" not in str(caught.value)


def test_without_bounds_no_policy_is_uniform():
    with pytest.raises(ValueError, match="LinearSystem has actions without bounds"):
        control_problem(LinearSystem)


def test_a_target_that_is_narrower_than_the_behaviour_gets_ratios_of_0():
    def half(observation):
        return Uniform(torch.zeros(len(observation), 2), 1.0)

    ratio = collect(control_problem(Levers, half, "uniform"), 1, 400, seed=0).ratio
    # The densities are 1 and 1/6, where the target has any.
    assert set(ratio.unique().tolist()) == {0.0, 6.0}
    assert abs(float((ratio > 0).float().mean()) - 1 / 6) < 0.08


def test_pendulum_has_policies_that_swing_up_and_hold():
    default, soft = (control_problem("Pendulum-v1", name) for name in ("default", "soft"))
    last = slice(150, 200)
    held = collect(default, 6, 200, seed=0).reward[:, last].mean()
    assert held > -0.5
    assert collect(soft, 6, 200, seed=0).reward[:, last].mean() < held
    assert collect(control_problem("Pendulum-v1", "uniform"), 6, 200, seed=0).reward.mean() < -4
