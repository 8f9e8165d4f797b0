"""Malformed logs of every kind: one clear line, and nothing half-made."""

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="the extra logs is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra logs is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

TIME = 6
PLAIN = {
    "observation": np.arange(12.0).reshape(TIME, 2),
    "action": np.array([0, 1, 0, 1, 0, 1]),
    "reward": np.ones(TIME),
    "terminated": np.array([0, 0, 1, 0, 0, 1]),
    "truncated": np.zeros(TIME),
}
HEAD = "observation_0,reward,terminated,truncated\n"
POLICY = "import torch\ndef half(seen): return torch.full((len(seen), 2), 0.5)\n"


def npz(**changes):
    def write(path):
        arrays = {name: array for name, array in (PLAIN | changes).items() if array is not None}
        np.savez(path, **arrays)

    return write


def hdf5(**changes):
    def write(path):
        with h5py.File(path, "w") as file:
            for name, array in (PLAIN | changes).items():
                if array is not None:
                    file[name] = array

    return write


def text(content):
    return lambda path: path.write_text(content)


def table(**columns):
    return lambda path: parquet.write_table(pa.table(columns), path)


def damaged(write):
    def halved(path):
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return halved


MARKS = {"terminated": [0, 1], "truncated": [0, 0]}
CASES = {
    "damaged.npz": (damaged(npz()), "is not a .npz file"),
    "empty.npz": (text(""), "is not a .npz file"),
    "none.npz": (lambda path: np.savez(path), "has no array observation"),
    "folder.npz": (lambda path: path.mkdir(), "is not a file"),
    "pickle.pkl": (text("x"), "other kinds are known by their endings: .npz, .hdf5"),
    "complex.npz": (npz(reward=np.ones(TIME) * 1j), "reward is an array of complex128"),
    "dates.npz": (npz(reward=np.zeros(TIME, "M8[s]")), "reward is an array of datetime64"),
    "flat.npz": (npz(observation=np.zeros(TIME)), "[time, 1] for a single number"),
    "short.npz": (npz(reward=np.ones(4)), "row 4 is missing"),
    "scalar.npz": (npz(terminated=np.array(0)), "terminated has the shape []"),
    "states.npz": (npz(observation=None, states=PLAIN["observation"]), "--columns observation=st"),
    "done.npz": (npz(terminated=None, done=PLAIN["terminated"]), "--columns terminated=done"),
    "uncut.npz": (npz(truncated=None), "has no array truncated"),
    "large.npz": (npz(reward=np.full(TIME, 1e39)), "reward in row 0 is 1e+39"),
    "discount.npz": (npz(discount=np.full(TIME, np.nan)), "discount in row 0 is nan"),
    "ratio.npz": (npz(ratio=np.full(TIME, np.inf)), "ratio in row 0 is inf"),
    "two.npz": (npz(reward=np.ones((TIME, 2))), "name one of its columns as the cumulant"),
    "damaged.hdf5": (damaged(hdf5()), "is not an HDF5 file, or it is damaged"),
    "names.h5": (hdf5(reward=None, rewrads=PLAIN["reward"]), "did you mean rewrads for reward"),
    "bytes.hdf5": (hdf5(reward=np.array([b"a"] * TIME)), "reward is an array of |S1"),
    "group.hdf5": (hdf5(**dict.fromkeys(PLAIN), **{"a/b": np.ones(2)}), "it has a/b"),
    "words.csv": (text(f"{HEAD}1,2,0,0\n1,good,0,0\n"), "reward in row 1 is 'good'"),
    "ragged.csv": (text(f"{HEAD}1,2,0,0\n1,2\n"), "cannot be read as a table"),
    "gap.csv": (text(f"{HEAD}1,,0,0\n"), "reward in row 0 is nan"),
    "marks.csv": (text(f"{HEAD}1,2,3,0\n"), "terminated in row 0 is 3"),
    "headless.csv": (text("1,2,0,0\n3,4,0,1\n"), "several columns named 0"),
    "binary.csv": (lambda path: path.write_bytes(bytes(range(256))), "cannot be read as a table"),
    "numbers.csv": (text("observation_1,reward\n1,2\n"), "and no observation_0"),
    "text.parquet": (text("PAR1"), "cannot be read as a table"),
    "strings.parquet": (
        table(observation_0=["a", "b"], reward=[1, 2], **MARKS),
        "observation_0 in row 0 is 'a'",
    ),
    "lists.parquet": (
        table(observation=[[1.0], [1.0, 2.0]], reward=[1, 2], **MARKS),
        "observation has lists of 1 numbers, and of 2 in row 1",
    ),
    "nested.parquet": (
        table(observation=[{"x": 1.0}, {"x": 2.0}], reward=[1, 2], **MARKS),
        "observation is a column of struct",
    ),
    "minari:nothing-v0": (None, "is not in the local store"),
    "minari:": (None, "names no data set: give minari:ID"),
}
# With another policy.
OFF_POLICY = {
    "unknown.npz": (npz(), "no array behaviour_probability"),
    "actless.npz": (npz(action=None), "no array action, which the policy half needs"),
    "third.npz": (npz(action=np.full(TIME, 2)), "action in row 0 is 2; the policy half knows 2"),
    "sure.npz": (npz(behaviour_probability=np.full(TIME, 2.0)), "behaviour_probability in row 0"),
    "real.npz": (npz(action=np.full((TIME, 1), 0.5)), "the policy half returned [3, 2]"),
}
ALL = {**CASES, **OFF_POLICY}


@pytest.mark.parametrize("name", ALL)
def test_a_malformed_log_is_one_clear_line_and_nothing_half_made(
    evaluate, tmp_path, monkeypatch, name
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    write, said = ALL[name]
    if write is not None:
        write(tmp_path / name)
    flags = ""
    if name in OFF_POLICY:
        own = f"malformed_log_{name.partition('.')[0]}"
        (tmp_path / f"{own}.py").write_text(POLICY)
        flags = f"--policy {own}:half"
    before = {path.name for path in tmp_path.iterdir()} | {"store", "__pycache__"}
    done = evaluate(f"--data {name} {flags} --rule td --runs 2 --steps 6 --out run")
    assert done.status == 2, done.out + done.error
    (line,) = done.lines
    assert line.startswith(f"error: --data {name}")
    assert said in line
    assert {path.name for path in tmp_path.iterdir()} <= before
