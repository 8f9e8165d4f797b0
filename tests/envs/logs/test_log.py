import zipfile

import numpy as np
import pytest
import torch

from envs.finite.finite_mdp import finite_mdp
from envs.finite.streams import simulate_streams
from envs.logs.logged_problem import held_out_start, logged_problem, read_log

# Two episodes, one of either end, and an unfinished third one; two components, unlike the rows.
LOG = {
    "observation": np.arange(14, dtype=np.float32).reshape(7, 2),
    "action": np.array([0, 1, 2, 0, 1, 2, 0]),
    "reward": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    "terminated": np.array([0, 0, 1, 0, 0, 0, 0], dtype=bool),
    "truncated": np.array([0, 0, 0, 0, 1, 0, 0], dtype=bool),
}
FOLLOWING = {"next_observation": 100 + LOG["observation"]}
CHANCE = {"behaviour_probability": np.array([0.5, 0.25, 0.25, 0.5, 0.25, 0.25, 0.5])}


@pytest.fixture
def written(tmp_path):
    """Return a function that writes LOG with changes to a file; None leaves an array out."""

    def write(**changes):
        arrays = {name: array for name, array in (LOG | changes).items() if array is not None}
        path = tmp_path / "walk.npz"
        np.savez(path, **arrays)
        return path

    return write


def changed(name, row, value, **others):
    array = (LOG | FOLLOWING | CHANCE)[name].astype(np.float64)
    array[row] = value
    return {name: array, **others}


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


def test_booleans_may_be_numbers_and_actions_whole_floating_point_numbers(written):
    plain = read_log(written())
    other = read_log(
        written(
            action=LOG["action"].astype(np.float64),
            terminated=LOG["terminated"].astype(np.int64),
            truncated=LOG["truncated"].astype(np.float32),
        )
    )
    for name in ("action", "terminated", "truncated"):
        assert getattr(other, name).dtype == getattr(plain, name).dtype
        assert getattr(other, name).tolist() == getattr(plain, name).tolist()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("uint8", "float32"),
        (">f4", "float32"),
        ("float16", "float32"),
        ("int64", "float64"),
        ("float64", "float64"),
    ],
)
def test_observations_lose_no_digits(written, given, read):
    observation = LOG["observation"].astype(given)
    log = read_log(written(observation=observation))
    assert log.observation.dtype == read
    assert log.observation.tolist() == LOG["observation"].tolist()
    assert logged_problem(written(observation=observation), 0.9).transition.reward.shape == (1, 5)


def test_observations_of_several_axes_keep_them(written):
    images = np.zeros((7, 3, 4, 5), dtype=np.uint8)
    assert logged_problem(written(observation=images), 0.9).transition.observation.shape == (
        *(1, 5),
        *(3, 4, 5),
    )


def test_arrays_of_other_names_are_left_alone_even_pickled_ones(written):
    note = np.array([{"why": "a note"}], dtype=object)
    assert len(read_log(written(note=note, info=np.zeros(3))).reward) == 7


DEFECTS = [
    ({"reward": None}, "has no array reward"),
    ({"reward": None, "action": None}, "has no array action and no array reward"),
    ({"reward": LOG["reward"][:6]}, "reward has the shape [6]; it must be [7]: row 6 is missing"),
    ({"action": np.zeros(8, int)}, "action has the shape [8]", "row 7 is one too many"),
    ({"terminated": np.zeros((7, 1), bool)}, "terminated has the shape [7, 1]; it must be [7]"),
    ({"truncated": np.array(False)}, "truncated has the shape []; it must be [7]"),
    ({"next_observation": np.zeros((7, 3))}, "next_observation has the shape [7, 3]", "[7, 2]"),
    ({"behaviour_probability": np.ones(5)}, "behaviour_probability has", "row 5 is missing"),
    ({"observation": np.zeros(7)}, "observation has the shape [7]", "[time, 1]"),
    ({"observation": np.zeros((7, 0))}, "observation has the shape [7, 0]"),
    ({name: array[:0] for name, array in LOG.items()}, "is empty"),
    (changed("reward", 3, np.nan), "reward in row 3 is nan; it must be finite"),
    (changed("reward", 6, -np.inf), "reward in row 6 is -inf"),
    (changed("reward", 2, 1e39), "reward in row 2 is 1e+39"),
    (changed("observation", (4, 1), np.inf), "observation in row 4, component 1, is inf"),
    (changed("next_observation", (5, 0), np.nan), "next_observation in row 5, component 0, is nan"),
    (changed("behaviour_probability", 1, 0), "behaviour_probability in row 1 is 0.0", "above 0"),
    (changed("behaviour_probability", 2, 1.5), "behaviour_probability in row 2 is 1.5", "up to 1"),
    (changed("behaviour_probability", 3, -0.1), "behaviour_probability in row 3 is -0.1"),
    (changed("behaviour_probability", 4, np.nan), "behaviour_probability in row 4 is nan"),
    (changed("action", 5, 0.5), "action in row 5 is 0.5; it must be a whole number"),
    (changed("action", 0, -1), "action in row 0 is -1.0"),
    (changed("action", 1, np.nan), "action in row 1 is nan"),
    (changed("terminated", 1, 2), "terminated in row 1 is 2.0; it must be a boolean"),
    (changed("truncated", 2, np.nan), "truncated in row 2 is nan"),
    ({"terminated": np.array(["no"] * 7)}, "terminated is an array of <U2"),
    ({"reward": LOG["reward"] + 0j}, "reward is an array of complex128"),
    ({"reward": LOG["reward"].astype(object)}, "reward holds pickled objects"),
]


@pytest.mark.parametrize(("changes", "said"), [(changes, said) for changes, *said in DEFECTS])
def test_a_defect_is_one_line_that_names_file_array_and_row(written, changes, said):
    path = written(**changes)
    with pytest.raises(ValueError, match=r"walk\.npz") as caught:
        logged_problem(path, 0.9)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in said:
        assert part in message


def test_the_first_of_several_wrong_rows_is_named(written):
    reward = np.full(7, np.nan)
    reward[0] = 1
    with pytest.raises(ValueError, match="reward in row 1 is nan"):
        read_log(written(reward=reward))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no .npz file"),
        (b"observation,action\n1,2\n", "is no .npz file"),
        (b"\x80\x04]\x94.", "is no .npz file"),
    ],
)
def test_what_is_no_npz_file_is_refused(tmp_path, content, said):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_log(path)


def test_a_single_array_is_no_log(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        read_log(tmp_path / "one.npy")


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.npz does not exist"):
        read_log(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="is no file"):
        read_log(tmp_path)


def test_a_damaged_file_names_the_array(written):
    path = written()
    content = bytearray(path.read_bytes())
    place = content.find(LOG["reward"].tobytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"reward is damaged: .*CRC"):
        read_log(path)


def test_a_member_that_is_no_array_is_refused(written):
    path = written(reward=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("reward", b"1,2,3")
    with pytest.raises(ValueError, match="reward is no array"):
        read_log(path)


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
        (unsure, "rows 0 to 6: the policy unsure returned the row"),
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
