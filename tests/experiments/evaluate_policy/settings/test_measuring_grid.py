"""When the program measures: some fifty times, denser at the beginning, or every N updates."""

import json

import numpy as np
import pytest

from experiments.runs.results.history import read
from experiments.sweep.__main__ import sweep
from neural_tdc.learning.schedules import measured_steps

LINE = "--problem boyan --features given --rule td --runs 2 --compile off --dtype float64"


def test_without_measure_every_a_run_is_measured_fifty_times_and_learns_the_same(
    evaluate, tmp_path
):
    assert evaluate(f"{LINE} --steps 625 --out uneven").status == 0
    assert evaluate(f"{LINE} --steps 625 --measure-every 624 --out even").status == 0
    uneven, even = (read(tmp_path / name / "metrics.csv") for name in ("uneven", "even"))
    # The i-th of fifty is after (i/50)² of the run; the first, after 1/4 of an update, is left out.
    assert uneven.steps.tolist() == [round(index**2 / 4) for index in range(2, 51)]
    assert even.steps.tolist() == [1, 625]
    np.testing.assert_array_equal(uneven.last("error/rmsve"), even.last("error/rmsve"))


def test_a_longer_resumed_run_keeps_its_grid_and_ends_in_the_same_numbers(evaluate, tmp_path):
    assert evaluate(f"{LINE} --steps 100 --out run").status == 0
    assert evaluate(f"{LINE} --steps 130 --out run --resume").status == 0
    assert evaluate(f"{LINE} --steps 130 --out whole").status == 0
    resumed, whole = (read(tmp_path / name / "metrics.csv") for name in ("run", "whole"))
    assert resumed.steps.tolist() == measured_steps(130, None, length=100)
    np.testing.assert_array_equal(resumed.last("error/rmsve"), whole.last("error/rmsve"))
    # And once more, from what is now there.
    assert evaluate(f"{LINE} --steps 140 --out run --resume").status == 0
    assert read(tmp_path / "run" / "metrics.csv").steps.tolist() == measured_steps(
        140, None, length=100
    )


@pytest.mark.usefixtures("no_figures")
def test_a_study_selects_by_the_auc_that_the_run_of_a_rule_has(evaluate, run_program, tmp_path):
    assert evaluate(f"{LINE} --steps 60 --head-step 0.125 --out run").status == 0
    line = (
        "--problem boyan --features given --rule td --runs 2 --dtype float64 --steps 60 "
        "--head-steps 0.125 --fresh-runs 0 --workers 1 --memory 3 --compile off --out study"
    )
    done = run_program(sweep, line)
    assert done.status == 0, done.error
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    header, row = (tmp_path / "study/sweep.csv").read_text().splitlines()[:2]
    found = dict(zip(header.split(","), row.split(",")))
    expected = summary["metrics"]["rmsve"]["auc"]["mean"]
    assert float(found["auc_rmsve"]) == pytest.approx(expected, rel=1e-9)


def test_the_help_says_how_a_run_is_measured_by_default(evaluate, capsys):
    with pytest.raises(SystemExit):
        evaluate("--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "If not given, there are some 50 measurements, more of them at the beginning" in words
