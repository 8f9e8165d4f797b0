"""A study in parts, as jobs of an array run them, is the study of one job."""

import json
import shutil

import pytest

from experiments.sweep.settings.job_part import JobPart, job_part
from tests.experiments.sweep.small_study import LINE, rows_of, shards_of

PARTS = "s-1-of-2 s-2-of-2"


@pytest.fixture
def parts(study):
    def run(line=LINE):
        for number in (1, 2):
            status, out, error = study(f"{line} --fresh-runs 0 --shard {number}/2 --out s")
            assert status == 0, error
            assert f"part {number} of 2" in out
            assert "--merge s-*-of-2 --out s" in out

    return run


def test_parts_are_merged_into_the_study_of_one_job(study, parts, finished, tmp_path):
    whole = rows_of(finished / "sweep.csv")
    shutil.rmtree(finished)
    parts()
    count = [len(shards_of(tmp_path / name)) for name in PARTS.split()]
    assert min(count) >= 1
    # A job that is started again has nothing left to do.
    before = shards_of(tmp_path / "s-1-of-2")
    assert study(f"{LINE} --fresh-runs 0 --shard 1/2 --out s")[0] == 0
    assert shards_of(tmp_path / "s-1-of-2") == before
    status, _, error = study(f"--merge {PARTS} --out s")
    assert status == 0, error
    merged = rows_of(tmp_path / "s" / "sweep.csv")
    assert len(merged) == len(whole) == 18
    for one, other in zip(merged, whole):
        assert one.keys() == other.keys()
        for name in ("rule", "ratio", "body_step", "head_step", "auxiliary_step", "diverged"):
            assert one[name] == other[name]
        assert float(one["auc_rmsve"]) == pytest.approx(float(other["auc_rmsve"]), rel=1e-6)
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert config["problem"] == ["boyan"]
    assert config["ratios"] == ["1", "8", "inf"]
    assert len(shards_of(tmp_path / "s")) == sum(count)


def test_what_cannot_be_merged_is_refused_and_nothing_is_made(study, parts, tmp_path):
    parts(f"{LINE} --seed 4")
    (lost, *_) = sorted((tmp_path / "s-2-of-2" / "parts").iterdir())
    for line, said in (
        ("--merge s-1-of-2", "--merge: of 2 parts number 2 is not among the folders"),
        ("--merge s-1-of-2 nowhere", "--merge nowhere holds no part of a study"),
        (
            f"--merge {PARTS} --seed 5",
            "--seed 5 differs from the 4 of the run in s-1-of-2; --merge",
        ),
        (f"--merge {PARTS} --shard 1/2", "--shard 1/2 and --merge exclude each other"),
        ("LOST", "shards are finished; run part 2/2 to its end first"),
    ):
        if line == "LOST":
            lost.unlink()
            line = f"--merge {PARTS}"
        status, out, error = study(f"{line} --out s")
        assert status == 2, error
        # Above it may stand a note on the study.
        *_, last = error.splitlines()
        assert last.startswith("error: ")
        assert said in last
        assert not (tmp_path / "s").exists(), out


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2"])
def test_a_part_is_number_and_count(study, text):
    with pytest.raises(ValueError, match="is not I/N"):
        job_part(text)
    status, _, error = study(f"{LINE} --shard {text}")
    assert status == 2
    assert "--shard" in error


def test_parts_share_the_pieces(tmp_path):
    pieces = list(range(7))
    taken = [JobPart(number, 3).of(pieces) for number in (1, 2, 3)]
    assert sorted(each for some in taken for each in some) == pieces
    assert JobPart(2, 3).folder(tmp_path / "x").name == "x-2-of-3"
