"""The simulators of the accuracy benchmark: their truths, their chances, and a plain peer."""

import gymnasium
import numpy as np
import pytest

from benchmarks.accuracy import collection, problems
from benchmarks.accuracy.collection import collect, truth
from benchmarks.accuracy.designed_problems import DESIGNED_PROBLEMS
from benchmarks.accuracy.peers import backwards, lstd
from benchmarks.accuracy.problems import PROBLEMS, pendulum


@pytest.mark.parametrize("name", ["tandem-off", "river", "machine-off", "linear-distracted"])
def test_exact_values_satisfy_bellmans_equation_for_simulated_steps(name):
    problem, rng, draws = DESIGNED_PROBLEMS[name](), np.random.default_rng(2), 400
    state = collect(problem, 60, 4)[1][::4]
    many = state.repeat(draws, 0)
    action = collection.drawn_actions(rng, problem.target(many))
    after, reward, done = problem.step(rng, many, action)
    found = (reward + problem.discount * (1 - done) * problem.exact(after)).reshape(-1, draws)
    error = found.std(1) / np.sqrt(draws) + 1e-9
    assert (np.abs(found.mean(1) - problem.exact(state)) < 4.5 * error).all()


def test_no_designed_problem_is_one_of_the_page():
    assert not DESIGNED_PROBLEMS.keys() & PROBLEMS.keys()


@pytest.fixture(autouse=True)
def few_rollouts(monkeypatch):
    """Take fewer states and returns than the benchmark does."""
    monkeypatch.setattr(collection, "STATES", 40)
    monkeypatch.setattr(collection, "ROLLOUTS", 100)


@pytest.mark.parametrize(
    "name", ["queue", "queue-off", "stock", "stock-off", "integrator", "linear"]
)
def test_an_exact_truth_is_the_mean_of_simulated_returns(name):
    problem = (PROBLEMS | DESIGNED_PROBLEMS)[name]()
    exact = truth(problem, 3)
    simulated = truth(problem._replace(exact=None), 3)
    np.testing.assert_array_equal(exact.observation, simulated.observation)
    # Returns end where γ^k < 1e-3: what is left out is a part of the value itself.
    left_out = collection.NEGLIGIBLE * np.abs(exact.value)
    assert (np.abs(simulated.value - exact.value) < 4.5 * simulated.error + left_out).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_log_is_one_stream_whose_ratios_have_mean_one(name):
    problem = PROBLEMS[name]()
    log, states = collect(problem, 1500, 0)
    ends = log.terminated | log.truncated
    follows = ~ends[:-1]
    np.testing.assert_array_equal(log.next_observation[:-1][follows], log.observation[1:][follows])
    np.testing.assert_array_equal(problem.observe(states), log.observation)
    assert not (log.terminated & log.truncated).any()
    np.testing.assert_allclose(log.next_target.sum(1), 1)
    if problem.behaviour is None:
        np.testing.assert_array_equal(log.ratio, 1)
    else:
        error = log.ratio.std() / np.sqrt(len(log.ratio))
        assert abs(log.ratio.mean() - 1) < 4 * error


def test_the_pendulum_moves_as_gymnasiums_does():
    problem, environment = pendulum(), gymnasium.make("Pendulum-v1").unwrapped
    rng = np.random.default_rng(0)
    environment.reset(seed=0)
    for _ in range(50):
        state = np.array([[rng.uniform(-np.pi, np.pi), rng.uniform(-8, 8)]])
        action = rng.integers(3, size=1)
        environment.state = state[0].copy()
        observation, reward, *_ = environment.step(problems.TORQUES[action].astype(np.float32))
        after, gain, _ = problem.step(rng, state, action)
        np.testing.assert_allclose(problem.observe(after)[0], observation, atol=1e-6)
        assert gain[0] == pytest.approx(reward, abs=1e-6)


def test_returns_run_backwards_from_ends_and_cuts():
    reward, after = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 30.0, 40.0])
    discount = np.array([0.5, 0.0, 0.5, 0.5])
    ends = np.array([False, True, False, True])
    # The third goes on to the fourth, which is cut: 4 + 0.5·40 = 24.
    np.testing.assert_allclose(backwards(reward, discount, ends, after, 1.0), [2, 2, 15, 24])
    mixed = 3 + 0.5 * (0.5 * 30 + 0.5 * 24)
    first = 1 + 0.5 * (0.5 * 10 + 0.5 * 2)
    np.testing.assert_allclose(backwards(reward, discount, ends, after, 0.5), [first, 2, mixed, 24])


def test_the_plain_lstd_finds_the_values_of_the_queue():
    problem = PROBLEMS["queue"]()
    known = truth(problem, 0)
    log, _ = collect(problem, 5000, 0)
    value = lstd(log, problem.discount, 0.0, width=64)(known.observation, known.policy)
    assert np.sqrt(np.mean((value - known.value) ** 2)) < 0.35 * known.value.std()
