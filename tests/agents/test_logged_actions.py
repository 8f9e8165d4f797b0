"""Logs with continuous actions: V by densities and q by draws, against the exact value."""

import numpy as np
import pytest
import torch

from agents.logged_task import logged_task
from envs.logs.logged_problem import logged_problem
from tests.envs.control import lqr

GAMMA, TIME = 0.8, 20_000


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Write a log of the wider policy, with the densities of its actions."""
    environment, draws = lqr.LinearSystem(), np.random.default_rng(0)
    state, _ = environment.reset(seed=0)
    factor = np.linalg.cholesky(2 * lqr.COVARIANCE)
    action = draws.normal(size=(TIME, 3)) @ factor.T
    seen, reward = np.empty((TIME + 1, 2)), np.empty(TIME)
    for time in range(TIME):
        seen[time] = state
        action[time] += lqr.GAIN @ state
        state, reward[time], *_ = environment.step(action[time])
    seen[TIME] = state
    chosen = lqr.wider(torch.from_numpy(seen[:-1])).log_prob(torch.from_numpy(action)).exp()
    path = tmp_path_factory.mktemp("log") / "lqr.npz"
    none = np.zeros(TIME, bool)
    np.savez(
        path,
        observation=seen[:-1],
        action=action,
        reward=reward,
        terminated=none,
        truncated=none,
        next_observation=seen[1:],
        behaviour_probability=chosen.numpy(),
    )
    return path


def quadratic(row):
    """Return all products of up to two of the numbers of rows [..., n], and 1."""
    whole = torch.cat([torch.ones_like(row[..., :1]), row], -1)
    first, second = torch.triu_indices(whole.shape[-1], whole.shape[-1])
    return whole[..., first] * whole[..., second]


def fixed_point(feature, following, reward, ratio):
    weighted = ratio[:, None] * feature
    return torch.linalg.solve(weighted.T @ (feature - GAMMA * following), weighted.T @ reward)


STATES = torch.tensor([[0.0, 0.0], [0.5, -0.3], [-0.4, 0.6]], dtype=torch.float64)


def test_ratios_of_densities_give_the_exact_value(log):
    stream = logged_problem(log, GAMMA, lqr.gaussian).transition
    head = fixed_point(
        quadratic(stream.observation[0]),
        quadratic(stream.next_observation[0]),
        stream.reward[0],
        stream.ratio[0],
    )
    exact = lqr.exact_value(GAMMA)(STATES.numpy())
    np.testing.assert_allclose(quadratic(STATES) @ head, exact, rtol=0.05)
    acting = lqr.exact_value(GAMMA, covariance=2 * lqr.COVARIANCE)(STATES.numpy())
    assert np.abs(acting / exact - 1).min() > 0.2


def test_a_policy_in_float32_is_asked_about_a_log_in_float64(tmp_path):
    draws = np.random.default_rng(0)
    seen = draws.normal(size=(40, 3))
    rows = {"reward": np.ones(40), "action": np.arange(40) % 2, "truncated": np.arange(40) % 7 == 6}
    path = tmp_path / "wide.npz"
    np.savez(path, observation=seen, terminated=np.zeros(40, bool), **rows)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(1))
    problem = logged_problem(path, GAMMA, network, ratios=False)
    assert problem.transition.observation.dtype == torch.float64
    found = logged_task(problem, runs=1, of_actions=True).actions
    expected = network(torch.from_numpy(seen[:1]).float())
    torch.testing.assert_close(found._probabilities(torch.from_numpy(seen))[:1], expected)


def test_values_of_actions_need_no_density_and_give_the_exact_value(log):
    problem = logged_problem(log, GAMMA, lqr.gaussian, ratios=False)
    task = logged_task(problem, runs=1, of_actions=True, fraction=0.01, dtype=torch.float64)
    stream, draws = task.experience.transitions, task.experience.next_action[0]
    after = stream.next_observation[0][:, None].expand(-1, draws.shape[1], -1)
    head = fixed_point(
        quadratic(stream.observation[0]),
        quadratic(torch.cat([after, draws], -1)).mean(1),
        stream.reward[0],
        torch.ones(len(draws)),
    )
    states = (STATES - task.shift) / task.scale
    rows = task.actions.states(states, STATES, 0, draws=2000)
    found = (quadratic(rows) @ head).view(3, -1).mean(1)
    np.testing.assert_allclose(found, lqr.exact_value(GAMMA)(STATES.numpy()), rtol=0.05)
    with pytest.raises(ValueError, match="given features have no place for it"):
        logged_task(problem, runs=1, of_actions=True, given=True)
