"""Studies of logged data."""

import json

import numpy as np
import pytest

from experiments.evaluate_policy.parts import plan
from tests.experiments.sweep.small_study import LINE, rows_of


@pytest.fixture
def walk(tmp_path):
    """Return a function that writes walk.npz, whose episodes of 20 rows end as it is told."""

    def write(end):
        draws = np.random.default_rng(0)
        marks = {name: np.zeros(200, bool) for name in ("terminated", "truncated")}
        marks[end][19::20] = True
        seen, reward = draws.normal(size=(200, 2)), draws.normal(size=200)
        np.savez(tmp_path / "walk.npz", observation=seen, reward=reward, **marks)

    return write


def test_a_log_is_studied_by_what_needs_no_truth(study, walk, tmp_path):
    walk("terminated")
    line = LINE.replace("--problem boyan", "--data walk.npz --cumulant reward")
    status, _, error = study(f"{line} --out s")
    assert status == 2
    assert "--select auc_rmsve: walk does not measure it" in error
    status, out, error = study(f"{line} --select final_rmspbe --fresh-runs 2 --out s")
    assert status == 0, error
    rows = rows_of(tmp_path / "s" / "sweep.csv")
    assert {row["problem"] for row in rows} == {"walk"}
    assert "experiments.evaluate_policy --data walk.npz --cumulant reward" in out
    assert json.loads((tmp_path / "s" / "summary.json").read_text())["problems"] == ["walk"]
    status, _, error = study(f"{line} --problem boyan --out t")
    assert "--problem boyan and --data walk.npz exclude each other" in error


def test_a_log_is_read_once_for_all_cells_shards_and_seeds(study, walk, monkeypatch):
    walk("terminated")
    read = []

    def logged(settings):
        read.append(settings.rule)
        return original(settings)

    original = plan.logged
    monkeypatch.setattr(plan, "logged", logged)
    line = LINE.replace("--problem boyan", "--data walk.npz --select final_rmspbe")
    status, _, error = study(f"{line} --sampling markov replay --fresh-runs 2 --out s")
    assert status == 0, error
    assert len(read) == 1


def test_a_rule_that_follows_episodes_to_their_ends_is_refused_where_some_are_cut(study, walk):
    walk("truncated")
    line = LINE.replace("--problem boyan", "--data walk.npz --select final_rmspbe")
    line = line.replace("--rule td tdc", "--rule etd").replace("--auxiliary-ratios 0.25 1 ", "")
    status, _, error = study(f"{line} --out s")
    assert status == 2
    assert error.splitlines()[-1].startswith(
        "error: --rule etd follows episodes to their ends: in walk.npz some are truncated"
    )
