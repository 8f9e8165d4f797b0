"""Controls of a study: methods and a frozen body, in every table next to the rules."""

import json

import numpy as np
import pytest

from experiments.evaluate_policy.parts import plan
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.results.history import read
from experiments.sweep.running import shard
from experiments.sweep.running.build import cells
from experiments.sweep.settings.study_file import read_sweep_settings
from tests.experiments.sweep.small_study import rows_of
from tests.pretended_device import DEVICE, PretendedDevice, There

LINE = (
    "--problem boyan --width 5 --rule td --steps 40 --runs 2 --measure-every 20 --body-steps 2^-5 "
    "--ratios 1 --head-steps 2^-6 2^-3 --workers 1 --compile off --out s"
)
SEGMENTS = "--sampling sequences --sequence-length 4 --lambda 0.7"


def test_every_table_shows_the_controls_and_what_is_learned_is_that_of_single_runs(
    study, evaluate, tmp_path
):
    status, out, error = study(f"{LINE} {SEGMENTS}")
    assert status == 0, error
    rows = rows_of(tmp_path / "s" / "sweep.csv")
    assert [row["rule"] for row in rows] == ["td", "constant", "lstd-random", "frozen", "frozen"]
    assert [row["learned"] for row in rows[-2:]] == ["td", "td"]
    assert [(row["body_step"], row["head_step"]) for row in rows[-2:]] == [
        ("0.0", "0.015625"),
        ("0.0", "0.125"),
    ]
    assert "| lstd-random | – | – | – |" in out
    assert "Controls without a step learn from all transitions at once" in out
    # The control is far better here, and the line to run is still that of the rule.
    best = {row["rule"]: float(row["final_rmsve"]) for row in rows}
    assert best["lstd-random"] < best["td"]
    (shown,) = [line for line in out.splitlines() if line.startswith("best: ")]
    assert "--rule td " in f"{shown} "
    assert "--lambda 0.7" in shown
    assert json.loads((tmp_path / "s" / "summary.json").read_text())["configurations"] == 5
    said = (tmp_path / "s" / "selection-auc_rmsve.md").read_text()
    assert [name for name in ("td", "frozen", "constant", "lstd-random") if name in said] == ["td"]
    outcome = evaluate(
        "--problem boyan --steps 40 --runs 2 --rule td lstd-random --width 5 --measure-every 20 "
        f"--compile off --body-step 2^-5 --head-step 2^-5 {SEGMENTS} --out both"
    )
    assert outcome.status == 0, outcome.error
    for row in (rows[0], rows[2]):
        single = read(tmp_path / "both" / row["rule"] / "metrics.csv").values("error/rmsve")
        assert float(row["final_rmsve"]) == pytest.approx(single[-1].mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--lambda 0.5", "--lambda 0.5 needs --sampling sequences where features learn"),
        ("--controls lstd", "--controls 'lstd' is not one of frozen, constant, lstd-random"),
        ("--controls --head-steps 0.5", "--head-steps"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(study, flags, said):
    line = "--problem boyan --width 5 --rule td --steps 4 --runs 2 --body-steps 1 --ratios 1"
    status, _, error = study(f"{line} {flags} --out s")
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_control_is_left_out_where_it_would_hold_too_much():
    line = "--problem boyan --width 5 --rule td --steps 100001 --runs 2"
    _, by_problem = read_sweep_settings(line.split())
    found, notes = cells(by_problem)
    assert [cell.rule for cell in found if cell.control] == ["frozen"]
    assert notes[0] == "control constant left out: it holds at most 100,000 transitions"


def test_a_control_that_is_a_method_learns_on_the_device(monkeypatch):
    settings = EvaluationSettings(
        problem="boyan", rule=("lstd-random",), random_features=4, steps=20, runs=2, prefixes=1
    )
    part = shard.Shard("part", settings, [(0.0, 0.0, 0.0)], 1, compiled=False, curves=False)
    here = shard.run_shard(part)
    measure, learned_from = shard.prefix_measurements, []

    def watched(method, streams, *args, **options):
        learned_from.extend(streams)
        return measure(method, streams, *args, **options)

    monkeypatch.setattr(shard, "_ready", {})
    monkeypatch.setattr(shard, "prefix_measurements", watched)
    monkeypatch.setattr(plan, "resolve_device", lambda *_, **__: DEVICE)
    with PretendedDevice():
        there = shard.run_shard(part)
    assert [type(stream.reward) for stream in learned_from] == [There, There]
    assert here.keys() == there.keys()
    for name, values in here.items():
        np.testing.assert_array_equal(there[name], values)
