"""Reading runs and studies back into arrays and tables."""

import json
import math

import numpy as np
import pytest

from experiments.runs.loading import load_run, load_runs, load_study
from experiments.runs.results.history import History, MetricsFile
from neural_tdc import load_value


def write_run(folder, rule):
    folder.mkdir(parents=True)
    history = History()
    file = MetricsFile(folder / "metrics.csv", history)
    for step, lost in ((1, [False, False]), (7, [False, True])):
        history.append(step, {"error/rmsve": np.array([0.1 * step, 3.0])}, np.array(lost))
        file.write()
    file.close()
    noise = {"truth": 0.25, "rmspbe_floor": None, "below_noise": {}}
    summary = {"rule": rule, "problem": "p", "seed": 4, "noise": noise}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_a_run_is_its_measurements_settings_and_summary(tmp_path):
    write_run(tmp_path / "td", "td")
    run = load_run(tmp_path / "td")
    assert (run.rule, run.problem, run.seed, run.summary["seed"]) == ("td", "p", 4, 4)
    assert run.truth_standard_error == 0.25
    assert run.history.steps.tolist() == [1, 7]
    frame = run.frame()
    assert list(frame) == ["step", "run", "diverged", "error/rmsve"]
    assert frame["step"].tolist() == [1, 1, 7, 7]
    assert frame["run"].tolist() == [0, 1, 0, 1]
    assert frame["diverged"].tolist() == [False, False, False, True]
    assert frame["error/rmsve"][:3].tolist() == [0.1, 3.0, 0.1 * 7]
    assert math.isnan(frame["error/rmsve"][3])


def test_several_runs_are_read_by_name_and_refused_as_one(tmp_path):
    for rule in ("td", "tdc"):
        write_run(tmp_path / rule, rule)
    assert {name: run.rule for name, run in load_runs(tmp_path).items()} == {
        "td": "td",
        "tdc": "tdc",
    }
    with pytest.raises(ValueError, match="holds several runs, 'td', 'tdc': use load_runs"):
        load_run(tmp_path)


def test_a_study_is_its_tables(tmp_path):
    (tmp_path / "sweep.csv").write_text("rule,head_step,auc_rmsve\ntd,0.5,2\ntd,0.25,\n")
    (tmp_path / "selected-auc_rmsve.csv").write_text("rule,auc_rmsve\ntd,2\n")
    study = load_study(tmp_path)
    assert study.results["head_step"].tolist() == [0.5, 0.25]
    assert math.isnan(study.results["auc_rmsve"][1])
    assert study.selected["auc_rmsve"]["rule"].tolist() == ["td"]


@pytest.mark.parametrize(
    ("name", "content", "load", "said"),
    [
        ("summary.json", '{"seed": "four"}', load_run, "its seed 'four' is not a whole number"),
        ("sweep.csv", "", load_study, "sweep.csv cannot be read as a table: No columns"),
        ("selected-x.csv", "a,b\n1,2,3\n1,2,3,4,5\n", load_study, "selected-x.csv cannot be"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, load, said):
    folder = tmp_path / "run"
    write_run(folder, "td")
    (folder / "sweep.csv").write_text("rule\ntd\n")
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        load(folder)


@pytest.mark.parametrize("load", [load_run, load_runs, load_study, load_value])
def test_a_name_that_no_folder_can_have_is_refused_in_one_line(load):
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        load("a" * 300)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (load_run, "holds no run: there is no metrics.csv"),
        (load_study, "holds no finished study: there is no sweep.csv"),
    ],
)
def test_a_folder_without_what_is_asked_for_is_named(tmp_path, load, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path)
