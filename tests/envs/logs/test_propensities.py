"""Estimated behaviour probabilities against the true ones."""

import numpy as np
import pytest
import torch

from envs.logs.logged_problem import logged_problem
from envs.logs.propensities import estimated_propensities
from envs.logs.reading import read_log

TIME = 4_000


def acting(observation):
    """Return the probabilities of three actions, of which one is taken more in the middle."""
    first, second = observation[:, 0], observation[:, 1]
    scores = np.stack([1.5 - 3 * first**2, second, -second], 1)
    chances = np.exp(scores)
    return chances / chances.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    draws = np.random.default_rng(0)
    # One step an episode: the value is a mean that is known.
    observation = draws.uniform(-1, 1, size=(TIME, 2))
    chances = acting(observation)
    action = (draws.uniform(size=TIME)[:, None] > chances.cumsum(1)).sum(1)
    reward = (action == 0) * (1 + observation[:, 0]) + (action == 1) * observation[:, 1]
    path = tmp_path_factory.mktemp("log") / "bandit.npz"
    np.savez(
        path,
        observation=observation,
        action=action,
        reward=reward,
        terminated=np.ones(TIME, bool),
        truncated=np.zeros(TIME, bool),
    )
    return path


def target(observation):
    return torch.tensor([[0.6, 0.3, 0.1]]).repeat(len(observation), 1)


def test_estimates_are_near_the_true_probabilities_and_so_is_the_value(log):
    problem = logged_problem(log, 0.9, target, behaviour="estimate")
    stream, action = problem.transition, problem.action[0].numpy()
    wanted = np.array([0.6, 0.3, 0.1])[action]
    found = wanted / stream.ratio[0].numpy()
    true = acting(stream.observation[0].numpy())[np.arange(TIME), action]
    assert np.abs(found - true).mean() < 0.05
    # E[r] under the target: 0.6·E(1 + x) + 0.3·E(y).
    assert float((stream.ratio * stream.reward).mean()) == pytest.approx(0.6, abs=0.04)
    assert abs(float(stream.reward.mean()) - 0.6) > 0.08
    assert problem.behaviour == "estimated"
    note = problem.notes[0]
    assert "estimated by network: mean log-probability of 800 held-out actions" in note
    # The score of the true probabilities is the best that there is, up to chance.
    score = float(note.partition("actions ")[2].split()[0])
    assert abs(np.log(true).mean() - score) < 0.05


def test_the_same_log_gives_the_same_estimate_and_leaves_torchs_generator_alone(log):
    read = read_log(log)
    names = ("observation", "action", "terminated", "truncated")
    part = read._replace(**{name: getattr(read, name)[:300] for name in names})
    before = torch.get_rng_state()
    first, second = estimated_propensities(part), estimated_propensities(part)
    assert np.array_equal(first.probability, second.probability)
    assert torch.equal(torch.get_rng_state(), before)
    # Nothing better than what does not depend on the observation, where nothing does.
    action = np.random.default_rng(1).integers(0, 2, 300)
    none = estimated_propensities(part._replace(action=action))
    assert np.abs(none.probability - 0.5).mean() < 0.1
    with pytest.raises(ValueError, match="has 4 rows, too few to estimate the behaviour"):
        estimated_propensities(read._replace(**{name: getattr(read, name)[:4] for name in names}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"action": None}, "no array action, which an estimate of the behaviour needs"),
        ({"action": np.zeros((TIME, 2))}, "has continuous actions or several per step"),
    ],
)
def test_what_cannot_be_estimated_is_refused(log, changes, said):
    with pytest.raises(ValueError, match=said):
        estimated_propensities(read_log(log)._replace(**changes))
