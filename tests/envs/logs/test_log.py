import numpy as np
import pytest
import torch

from envs.logs.logged_problem import logged_problem
from envs.logs.reading import read_log
from tests.envs.logs.log_arrays import CHANCE, LOG, changed


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
        ("uint8", "uint8"),
        ("int8", "float32"),
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


def test_observations_of_several_axes_keep_them_and_bytes_are_held_once(written):
    images = np.arange(7 * 60, dtype=np.uint8).reshape(7, 3, 4, 5)
    problem = logged_problem(written(observation=images), 0.9)
    assert problem.shape == (3, 4, 5)
    assert problem.table.dtype == torch.uint8
    assert np.array_equal(problem.table, images)
    assert problem.transition.observation.tolist() == [[0, 1, 2, 3, 5]]
    assert problem.transition.next_observation.tolist() == [[1, 2, 2, 4, 6]]
    following = np.concatenate([images[1:], images[:1]])
    problem = logged_problem(written(observation=images, next_observation=following), 0.9)
    # Only behind the truncated row 4 and the last one is there anything that is no row.
    assert problem.transition.next_observation.tolist() == [[1, 2, 2, 4, 5, 6, 7]]
    plain = problem.plain().next_observation[0]
    assert plain.dtype == torch.float32
    assert np.array_equal(plain[[0, 1, 3, 4, 5, 6]], following[[0, 1, 3, 4, 5, 6]])
    assert np.array_equal(problem.plain(slice(2, 3)).next_observation[0, 0], images[2])


DEFECTS = [
    ({"reward": None}, "has no array reward"),
    (
        {"reward": None, "terminated": None},
        "has no array reward and no array terminated; it has observation, action, truncated; a log",
    ),
    ({"truncated": None}, "has no array truncated"),
    (
        {"reward": np.zeros((7, 2))},
        "reward has the shape [7, 2]",
        "as the cumulant, such as reward_0",
    ),
    ({"action": np.zeros((7, 0))}, "action has the shape [7, 0]"),
    ({"action": np.full((7, 2), np.nan)}, "action in row 0, component 0, is nan"),
    (
        {"action": np.zeros((7, 2)), **CHANCE, "behaviour_probability": np.full(7, np.inf)},
        "density",
    ),
    ({"discount": np.full(7, 1.5)}, "discount in row 0 is 1.5; it must be a number from 0 to 1"),
    ({"ratio": np.full(7, -0.5)}, "ratio in row 0 is -0.5; it must be a finite number"),
    ({"ratio": np.zeros(7)}, "ratio is 0 in all rows"),
    ({"reward": LOG["reward"][:6]}, "reward has the shape [6]; it must be [7]: row 6 is missing"),
    ({"action": np.zeros(8, int)}, "action has the shape [8]", "row 7 is one too many"),
    ({"terminated": np.zeros((7, 2), bool)}, "terminated has the shape [7, 2]; it must be [7]"),
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
