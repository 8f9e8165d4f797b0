"""The same log from files of every kind, under the names that other programs give."""

import gzip

import numpy as np
import pytest
import torch

from envs.logs.logged_problem import logged_problem
from envs.logs.reading import Reading, read_log, read_logs
from tests.envs.logs.log_arrays import CHANCE, FOLLOWING, LOG

h5py = pytest.importorskip("h5py", reason="the extra logs is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra logs is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

WHOLE = LOG | FOLLOWING | CHANCE
D4RL = {
    "observations": WHOLE["observation"],
    "actions": WHOLE["action"],
    "rewards": WHOLE["reward"].astype(np.float32),
    "terminals": WHOLE["terminated"],
    "timeouts": WHOLE["truncated"],
    "next_observations": WHOLE["next_observation"],
    "infos/action_log_probs": np.log(WHOLE["behaviour_probability"]),
    "infos/qpos": np.zeros((7, 3)),
}


def as_table(arrays):
    """Return {column: numbers}, arrays of several components in columns of their own."""
    columns = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        else:
            columns |= {f"{name}_{number}": part for number, part in enumerate(array.T)}
    return columns


def csv_text(columns, separator=","):
    rows = zip(*(column.tolist() for column in columns.values()))
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in rows)]
    return "\n".join(lines) + "\n"


def write_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write(path, arrays):
    name = path.name.lower()
    if name.endswith(".npz"):
        np.savez(path, **arrays)
    elif name.endswith((".hdf5", ".h5")):
        write_hdf5(path, arrays)
    elif name.endswith(".lists.parquet"):
        parquet.write_table(
            pa.table({name: pa.array(array.tolist()) for name, array in arrays.items()}), path
        )
    elif name.endswith(".parquet"):
        parquet.write_table(pa.table(as_table(arrays)), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(csv_text(as_table(arrays)).encode()))
    else:
        separator = "\t" if name.endswith(".tsv") else ","
        path.write_text(csv_text(as_table(arrays), separator))
    return path


def same(read, expected):
    assert all(np.array_equal(one, other) for one, other in zip(read, expected))


@pytest.mark.parametrize("arrays", [WHOLE, D4RL], ids=["ours", "d4rl"])
@pytest.mark.parametrize(
    "name",
    ["a.npz", "a.hdf5", "a.H5", "a.csv", "a.csv.gz", "a.tsv", "a.parquet", "a.lists.parquet"],
)
def test_every_kind_of_file_gives_the_same_stream(tmp_path, written, name, arrays):
    path = write(tmp_path / name, arrays)
    plain = logged_problem(written(**FOLLOWING, **CHANCE), 0.9)
    read = logged_problem(path, 0.9)
    same(read.transition, plain.transition)
    assert read.action.tolist() == plain.action.tolist()
    assert read.name in ("a", "a.lists")
    np.testing.assert_allclose(
        read_log(path).behaviour_probability, CHANCE["behaviour_probability"]
    )


def test_names_in_the_file_may_be_given_and_components_put_together(tmp_path, written):
    columns = as_table(LOG)
    columns["y"], columns["x"] = columns.pop("observation_1"), columns.pop("observation_0")
    columns["gain"] = columns.pop("reward")
    path = write(tmp_path / "a.csv", columns)
    with pytest.raises(ValueError, match="has no array observation and no array reward; it has"):
        read_log(path)
    named = Reading({"observation": "x, y", "reward": "gain"})
    same(
        logged_problem(path, 0.9, reading=named).transition,
        logged_problem(written(), 0.9).transition,
    )
    with pytest.raises(ValueError, match=r"no array gaim, which reward is to be; .* mean gain?"):
        read_log(path, Reading({"observation": "x,y", "reward": "gaim"}))
    with pytest.raises(ValueError, match=r"a log has no array rewrad; .* did you mean reward?"):
        read_log(path, Reading({"rewrad": "gain"}))


def test_a_guess_is_made_for_names_that_are_not_known(tmp_path):
    arrays = {"obs": LOG["observation"], "rews": LOG["reward"], "dones": LOG["terminated"]}
    path = write(tmp_path / "a.npz", arrays | {"truncated": LOG["truncated"]})
    said = "did you mean obs for observation and rews for reward and dones for terminated"
    with pytest.raises(ValueError, match=said) as caught:
        read_log(path)
    assert caught.value.guesses == {"observation": "obs", "reward": "rews", "terminated": "dones"}


def test_an_array_that_has_a_place_in_the_log_is_not_guessed_for_another(tmp_path):
    arrays = {name: LOG[name] for name in ("observation", "reward", "terminated")}
    said = r"no array truncated; .* truncated \(or in its place episode, or next_observation\)$"
    with pytest.raises(ValueError, match=said) as caught:
        read_log(write(tmp_path / "a.npz", arrays))
    assert caught.value.guesses == {}


@pytest.mark.parametrize("wrong", [np.nan, 0.5, -np.inf])
def test_numbers_of_episodes_are_whole(tmp_path, wrong):
    episode = np.array([3, 3, wrong, 4, 4, 4, 4.0])
    with pytest.raises(ValueError, match=r"episode in row 2 is .* must be the whole number"):
        read_log(write(tmp_path / "a.npz", LOG | {"episode": episode}))


def test_any_array_or_component_may_be_the_cumulant(tmp_path):
    rewards = np.stack([LOG["reward"], 10 * LOG["reward"]], 1)
    path = write(tmp_path / "a.npz", LOG | {"reward": rewards, "speed": 2 * LOG["reward"]})
    for cumulant, factor in (("reward_0", 1), ("reward_1", 10), ("speed", 2)):
        read = read_log(path, Reading(cumulant=cumulant))
        assert read.reward.tolist() == (factor * LOG["reward"]).tolist()
    with pytest.raises(ValueError, match=r"reward has the shape .* and no component 2"):
        read_log(path, Reading(cumulant="reward_2"))
    with pytest.raises(
        ValueError, match=r"observation has the shape .* cumulant, such as observation_0"
    ):
        read_log(path, Reading(cumulant="observation"))


def test_discounts_of_the_file_hold_and_are_multiplied_by_one_that_is_given(tmp_path):
    own = np.linspace(0.1, 0.7, 7)
    path = write(tmp_path / "a.npz", LOG | FOLLOWING | {"discount": own})
    # Row 2 terminates.
    expected = own * [1, 1, 0, 1, 1, 1, 1]
    alone, both = logged_problem(path), logged_problem(path, 0.5)
    np.testing.assert_allclose(alone.transition.discount[0], expected)
    np.testing.assert_allclose(both.transition.discount[0], 0.5 * expected)
    assert alone.discount == pytest.approx(0.7)
    assert "each step has the discount of the file" in alone.notes[-1]
    assert logged_problem(write(tmp_path / "b.npz", LOG)).discount == 0.99


def test_ratios_of_the_file_are_those_of_the_transitions(tmp_path):
    own = np.array([0.5, 1, 2, 0, 1.5, 1, 1])
    path = write(tmp_path / "a.npz", LOG | FOLLOWING | {"ratio": own})
    problem = logged_problem(path, 0.9, ratio_limit=1.25)
    assert problem.transition.ratio[0].tolist() == [0.5, 1, 1.25, 0, 1.25, 1, 1]
    assert (problem.ratios, problem.target) == ("file", None)


def test_a_change_of_the_episodes_number_is_a_cut(tmp_path, written):
    number = np.array([7, 7, 7, 3, 3, 4, 4])
    arrays = {name: array for name, array in LOG.items() if name != "truncated"}
    path = write(tmp_path / "b.npz", arrays | {"episode": number})
    same(logged_problem(path, 0.9).transition, logged_problem(written(), 0.9).transition)


def test_without_marks_of_cuts_next_observations_tell_them(tmp_path, written):
    arrays = {name: array for name, array in WHOLE.items() if name != "truncated"}
    problem = logged_problem(write(tmp_path / "a.hdf5", arrays), 0.9)
    marked = logged_problem(written(**FOLLOWING, **CHANCE), 0.9)
    same(problem.transition, marked.transition)
    (note,) = problem.notes
    assert "after 1 of 7 rows, first row 4" in note


def lstd(stream, trace_decay):
    """Return the values of LSTD(λ) at the observations of a stream of given features."""
    seen, following = stream.observation[0].double(), stream.next_observation[0].double()
    trace, A, b = torch.zeros(2), torch.zeros(2, 2).double(), torch.zeros(2).double()
    for row in range(len(seen)):
        decay = trace_decay * stream.discount[0, row - 1] * (1 - stream.first[0, row])
        trace = decay * trace + seen[row]
        A += torch.outer(trace, seen[row] - stream.discount[0, row] * following[row])
        b += trace * stream.reward[0, row]
    return seen @ torch.linalg.solve(A, b)


def test_unmarked_cuts_of_d4rl_give_the_values_of_marked_ones(tmp_path):
    draws = np.random.default_rng(0)
    seen = draws.normal(size=(41, 2)).astype(np.float32)
    episodes = [slice(0, 10), slice(12, 30), slice(31, 40)]
    rows = np.concatenate([np.arange(41)[each] for each in episodes])
    arrays = {
        "observations": seen[rows],
        "next_observations": seen[rows + 1],
        "actions": draws.normal(size=(37, 3)),
        "rewards": draws.normal(size=37),
        "terminals": np.zeros(37, bool),
    }
    cuts = np.append(np.diff(rows) > 1, True)
    files = {"unmarked": arrays, "marked": arrays | {"timeouts": cuts}}
    streams = {
        name: logged_problem(write(tmp_path / f"{name}.hdf5", each), 0.9).transition
        for name, each in files.items()
    }
    values = lstd(streams["unmarked"], 0.8)
    assert torch.equal(values, lstd(streams["marked"], 0.8))
    through = streams["marked"]._replace(first=torch.zeros(1, 37))
    assert (lstd(through, 0.8) - values).abs().max() > 1e-3


def test_several_files_are_one_log_in_which_an_episode_ends_with_its_file(tmp_path):
    one = write(tmp_path / "a.npz", WHOLE)
    other = write(tmp_path / "b.csv", WHOLE | {"reward": -WHOLE["reward"]})
    stream = logged_problem([one, other], 0.9).transition
    alone, behind = logged_problem(one, 0.9).transition, logged_problem(other, 0.9).transition
    for name in ("observation", "reward", "discount", "next_observation", "first"):
        parts = [getattr(each, name)[0].double().numpy() for each in (alone, behind)]
        assert np.array_equal(getattr(stream, name)[0].double().numpy(), np.concatenate(parts)), (
            name
        )
    assert logged_problem([one, other], 0.9).name == "a+b"
    bare = write(tmp_path / "c.npz", LOG)
    without = logged_problem([bare, write(tmp_path / "d.npz", LOG)], 0.9).transition
    # Without next observations the last row of either file is left out.
    assert without.reward[0].tolist() == [1, 2, 3, 4, 6] * 2
    assert without.first[0].tolist() == [1, 0, 0, 1, 1] * 2
    with pytest.raises(ValueError, match=r"a\.npz has next_observation, and .*c\.npz has none"):
        read_logs([one, bare])
    with pytest.raises(ValueError, match=r"observation has the shape \[7, 1\], and .*\[7, 2\]"):
        read_logs([bare, write(tmp_path / "e.npz", LOG | {"observation": np.zeros((7, 1))})])


def test_pictures_of_several_files_stay_bytes(tmp_path):
    pictures = np.arange(7 * 12, dtype=np.uint8).reshape(7, 1, 3, 4)
    paths = [write(tmp_path / f"{name}.npz", LOG | {"observation": pictures}) for name in "ab"]
    log = read_logs(paths)
    assert log.observation.dtype == np.uint8
    assert np.array_equal(log.observation, np.concatenate([pictures, pictures]))


@pytest.mark.parametrize("kind", ["an axis of one", "spaces in names", "decimal numbers"])
def test_what_says_the_same_in_other_words_is_read(tmp_path, kind):
    expected = read_log(write(tmp_path / "a.npz", WHOLE))
    if kind == "an axis of one":
        several = {name: WHOLE[name][:, None] for name in ("reward", "terminated", "truncated")}
        path = write(tmp_path / "b.hdf5", WHOLE | several)
    elif kind == "spaces in names":
        path = tmp_path / "b.csv"
        path.write_text(csv_text(as_table(WHOLE)).replace(",", ", "))
    else:
        path = tmp_path / "b.parquet"
        reward = pa.array(WHOLE["reward"]).cast(pa.decimal128(20, 10))
        parquet.write_table(pa.table(as_table(WHOLE) | {"reward": reward}), path)
    found = read_log(path)
    for name in ("observation", "reward", "terminated", "truncated"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "observation_0,reward,terminated,truncated\n1,2,0,0\n1,x,0,1\n", "row 1 is 'x'"),
        (
            "a.csv",
            "observation_0,reward,terminated,truncated\n1,2,0\n",
            "cannot be read as a table",
        ),
        ("a.csv", "observation_0,observation_2,reward\n1,2,3\n", "no observation_1"),
        ("a.csv", "reward,reward\n1,2\n", "several columns named reward"),
        ("a.csv", "observation_0,reward,terminated,truncated\n1,,0,0\n", "reward in row 0 is nan"),
        ("a.csv", "", "cannot be read as a table"),
        ("a.csv", "observation_0;reward\n1;2\n", "has a single column 'observation_0;reward': col"),
        ("a.csv", b"observation_0,caf\xe9\n1,2\n", "cannot be read as a table: 'utf-8' codec"),
        ("a.parquet", "no parquet", "cannot be read as a table"),
        ("a.hdf5", "no hdf5", "is not an HDF5 file, or it is damaged"),
        ("a.h5", None, "does not exist"),
        ("a.csv", None, "does not exist"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said) as caught:
        read_log(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_texts_in_hdf5_and_files_of_minari_are_refused(tmp_path):
    write_hdf5(tmp_path / "a.hdf5", WHOLE | {"reward": np.array([b"much"] * 7)})
    with pytest.raises(ValueError, match=r"reward is an array of .S4"):
        read_log(tmp_path / "a.hdf5")
    write_hdf5(tmp_path / "main_data.hdf5", {"episode_0/rewards": np.zeros(3)})
    with pytest.raises(ValueError, match="holds a data set of Minari: give minari:"):
        read_log(tmp_path / "main_data.hdf5")


def test_a_file_larger_than_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npz", WHOLE)
    monkeypatch.setattr("neural_tdc.device_memory.available_bytes", lambda device: 500)
    with pytest.raises(ValueError, match=r"a\.npz \(most of it observation\) takes .* GB, and cpu"):
        read_log(path)
