"""A log as a prediction problem: its stream, its ratios and its held-out part."""

import numpy as np
import pytest
import torch

from envs.finite.finite_mdp import finite_mdp
from envs.finite.streams import simulate_streams
from envs.logs.held_out import held_out_start
from envs.logs.logged_problem import logged_problem
from tests.envs.logs.log_arrays import CHANCE, FOLLOWING, LOG, changed


def policy(observation):
    assert observation.dtype == torch.float32
    return torch.tensor([[0.2, 0.3, 0.5]]).repeat(len(observation), 1)


def test_without_next_observation_the_next_row_is_it_and_what_cannot_be_known_is_left_out(written):
    problem = logged_problem(written(), 0.9)
    stream = problem.transition
    # Rows 4 (truncated) and 6 (the last) are gone; row 2 terminated and repeats itself.
    assert stream.observation.tolist() == [[[0, 1], [2, 3], [4, 5], [6, 7], [10, 11]]]
    assert stream.next_observation.tolist() == [[[2, 3], [4, 5], [4, 5], [8, 9], [12, 13]]]
    assert stream.reward.tolist() == [[1, 2, 3, 4, 6]]
    assert stream.discount.tolist() == [[0.9, 0.9, 0, 0.9, 0.9]]
    assert stream.first.tolist() == [[1, 0, 0, 1, 1]]
    assert stream.ratio.tolist() == [[1, 1, 1, 1, 1]]
    (note,) = problem.notes
    assert "2 of 7 rows are left out" in note
    assert (problem.name, problem.discount, problem.target) == ("walk", 0.9, None)


def test_with_next_observation_every_row_stays_and_truncation_keeps_the_discount(written):
    problem = logged_problem(written(**FOLLOWING), 0.9)
    stream = problem.transition
    assert problem.notes == ()
    assert stream.first.tolist() == [[1, 0, 0, 1, 0, 1, 0]]
    assert stream.discount.tolist() == [[0.9, 0.9, 0, 0.9, 0.9, 0.9, 0.9]]
    expected = FOLLOWING["next_observation"].copy()
    expected[2] = LOG["observation"][2]
    assert stream.next_observation[0].tolist() == expected.tolist()


def test_a_last_row_that_terminates_stays(written):
    ends = np.array([0, 0, 1, 0, 0, 0, 1], dtype=bool)
    problem = logged_problem(written(terminated=ends), 0.9)
    assert problem.transition.reward.tolist() == [[1, 2, 3, 4, 6, 7]]
    assert "1 of 7 rows" in problem.notes[0]


def test_a_row_that_is_both_terminated_and_truncated_is_terminated(written):
    both = np.array([0, 0, 1, 0, 1, 0, 0], dtype=bool)
    stream = logged_problem(written(terminated=both), 0.9).transition
    assert stream.reward.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert stream.discount.tolist() == [[0.9, 0.9, 0, 0.9, 0, 0.9]]


def test_whatever_stands_behind_a_termination_is_left_alone(written):
    stream = logged_problem(written(**changed("next_observation", 2, np.nan)), 0.9).transition
    assert stream.next_observation.isfinite().all()


def test_ratios_are_the_targets_probabilities_over_those_of_the_behaviour(written):
    problem = logged_problem(written(**CHANCE, **FOLLOWING), 0.9, policy)
    np.testing.assert_allclose(
        problem.transition.ratio[0], [0.4, 1.2, 2.0, 0.4, 1.2, 2.0, 0.4], rtol=1e-7
    )
    assert "mean 1.09" in problem.notes[0]
    assert "largest 2" in problem.notes[0]


def test_ratios_stay_with_their_rows_where_others_are_left_out(written):
    ratio = logged_problem(written(**CHANCE), 0.9, policy).transition.ratio
    np.testing.assert_allclose(ratio[0], [0.4, 1.2, 2.0, 0.4, 2.0], rtol=1e-7)


def test_ratios_of_more_rows_than_a_policy_sees_at_a_time_are_those_of_each_row(tmp_path):
    draws = np.random.default_rng(0)
    time = 9000
    observation = draws.uniform(size=(time, 1)).astype(np.float32)
    action, chance = draws.integers(2, size=time), draws.uniform(0.1, 1, size=time)
    no = np.zeros(time, bool)
    path = tmp_path / "long.npz"
    np.savez(
        path,
        observation=observation,
        action=action,
        reward=observation[:, 0],
        terminated=no,
        truncated=no,
        behaviour_probability=chance,
    )
    sizes = []

    def leaning(observation):
        sizes.append(len(observation))
        return torch.cat([observation, 1 - observation], dim=1)

    ratio = logged_problem(path, 0.9, leaning).transition.ratio[0]
    right = np.where(action == 0, observation[:, 0], 1 - observation[:, 0]) / chance
    np.testing.assert_allclose(ratio, right[:-1], rtol=1e-6)
    assert max(sizes) < time


def test_a_chains_log_is_the_chains_stream(tmp_path):
    mdp = finite_mdp(
        transition=[[[0.5, 0.2, 0.1], [0.0, 0.9, 0.0]]] * 2 + [[[0.3, 0.3, 0.4], [0.2, 0.2, 0.5]]],
        reward=np.arange(18.0).reshape(3, 2, 3),
        discount=0.8,
        termination=[[0.2, 0.1]] * 2 + [[0.0, 0.1]],
        terminal_reward=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        behaviour=[[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]],
        observation=[[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]],
    )
    stream = simulate_streams(mdp, 1, 5000, seed=3, dtype=torch.float64)
    table = mdp.observation
    path = tmp_path / "chain.npz"
    np.savez(
        path,
        observation=table[stream.observation[0]],
        action=np.zeros(5000, dtype=int),
        reward=stream.reward[0],
        terminated=stream.discount[0] == 0,
        truncated=np.zeros(5000, dtype=bool),
    )
    read = logged_problem(path, 0.8).transition
    assert len(read.reward[0]) == 5000 - int(stream.discount[0, -1] > 0)
    kept = slice(len(read.reward[0]))
    for name in ("reward", "discount", "ratio", "first"):
        assert torch.equal(getattr(read, name)[0], getattr(stream, name)[0, kept]), name
    for name in ("observation", "next_observation"):
        assert torch.equal(getattr(read, name)[0], table[getattr(stream, name)[0, kept]]), name


def test_a_log_of_truncations_alone_has_nothing_to_learn_from(written):
    with pytest.raises(ValueError, match="no row can be learned from"):
        logged_problem(written(truncated=np.ones(7, bool), terminated=np.zeros(7, bool)), 0.9)


def two_actions(observation):
    return torch.full((len(observation), 2), 0.5)


def unsure(observation):
    return torch.full((len(observation), 3), 0.5)


def failing(observation):
    raise KeyError("no such thing")


def other_action(observation):
    return torch.tensor([[0.0, 0.0, 0.0, 1.0]]).repeat(len(observation), 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (two_actions, "action in row 2 is 2; the policy two_actions knows 2 actions, from 0 to 1"),
        (unsure, "rows 0 to 2: the policy unsure returned the row"),
        (failing, "the policy failing failed on observations .* KeyError"),
        (lambda observation: observation[:, 0], "must return probabilities"),
        (other_action, "the policy other_action never takes the logged action"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(written, given, said):
    with pytest.raises(ValueError, match=said) as caught:
        logged_problem(written(**CHANCE), 0.9, given)
    assert str(caught.value).startswith(str(written()))


def test_another_policy_needs_behaviour_probability(written):
    with pytest.raises(ValueError, match=r"no array behaviour_probability, which .* policy"):
        logged_problem(written(), 0.9, policy)


def starts(time, *where):
    first = torch.zeros(time)
    first[[0, *where]] = 1
    return first


@pytest.mark.parametrize(
    ("first", "fraction", "begin"),
    [
        (starts(100), 0.2, 80),
        (starts(100, 75), 0.2, 75),
        (starts(100, 75, 82, 95), 0.2, 82),
        (starts(100, 69), 0.2, 80),
        (starts(100, 70), 0.2, 70),
        (starts(10, 9), 0.3, 7),
    ],
)
def test_the_held_out_part_begins_at_an_episode_if_one_is_near(first, fraction, begin):
    assert held_out_start(first, fraction) == begin


@pytest.mark.parametrize(("time", "fraction"), [(100, 0.001), (100, 0.999), (3, 0.5), (1, 0.5)])
def test_a_log_too_short_for_two_parts_is_refused(time, fraction):
    with pytest.raises(ValueError, match=f"of {time} transitions leaves"):
        held_out_start(starts(time), fraction)
