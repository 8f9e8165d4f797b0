"""Studies of step sizes: what a shard computes, what a study keeps, and what it refuses."""

import json
import math
import shlex

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.recording.finished_parts import FinishedParts
from experiments.runs.results.history import read
from experiments.sweep.running import engines
from experiments.sweep.running import shard as shard_module
from experiments.sweep.running.shard import CONFIGURATIONS_TOGETHER, Shard, run_shard
from neural_tdc.learning.learner import learn
from tests.experiments.sweep.small_study import LINE, rows_of, shards_of


def test_every_configuration_has_a_row_and_every_rule_a_selected_one(study, tmp_path):
    status, out, error = study(f"{LINE} --out s")
    assert status == 0, error
    rows = rows_of(tmp_path / "s" / "sweep.csv")
    # td has no auxiliary vector: 2 steps × 3 ratios; tdc has one under every head: × 2.
    assert [row["rule"] for row in rows].count("td") == 6
    assert [row["rule"] for row in rows].count("tdc") == 12
    assert {row["learned"] for row in rows if row["ratio"] == "inf"} == {
        "semi_gradient+lstd",
        "mspbe+lstd",
    }
    with_head = [row for row in rows if row["ratio"] == "8.0"]
    assert {float(row["head_step"]) / float(row["body_step"]) for row in with_head} == {8.0}
    selected = rows_of(tmp_path / "s" / "selected-auc_rmsve.csv")
    assert len(selected) == 6
    by_auxiliary = (tmp_path / "s" / "auxiliary-ratios-auc_rmsve.md").read_text()
    assert by_auxiliary.splitlines()[0] == "| rule | 0.25 | 1 |"
    assert by_auxiliary.splitlines()[2].startswith("| tdc | 1.00 | ")
    assert sorted(row["rule"] for row in selected if row["best_of_rule"] == "1") == ["td", "tdc"]
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["configurations"] == 18
    assert summary["runs"] == 54
    assert "| tdc |" in out
    assert (tmp_path / "s" / "selected-auc_rmsve.tex").read_text().startswith(r"\begin{tabular}")
    events = sorted((tmp_path / "s" / "tensorboard").glob("*/*/events.out.tfevents.*"))
    assert len(events) == 18
    shown = [EventAccumulator(str(path)).Reload() for path in events if "td-0" in str(path)]
    for tag, column in (("whole_run/auc_rmsve", "auc_rmsve"), ("error/rmsve", "final_rmsve")):
        (point,) = shown[0].Scalars(tag)
        assert point.value == pytest.approx(float(rows[0][column]), rel=1e-6)
    assert rows[0]["auc_rmsve"] != rows[0]["final_rmsve"]


@pytest.mark.parametrize("sampling", ["markov", "iid"])
@pytest.mark.parametrize(("rule", "ratio", "learned"), [("tdc", 8, "tdc"), ("td", math.inf, None)])
def test_a_configuration_is_the_single_run_of_the_same_seed(
    study, evaluate, tmp_path, sampling, rule, ratio, learned
):
    status, _, error = study(f"{LINE} --sampling {sampling} --fresh-runs 0 --seed 5 --out s")
    assert status == 0, error
    found = [
        row
        for row in rows_of(tmp_path / "s" / "sweep.csv")
        if (row["rule"], float(row["ratio"])) == (rule, ratio)
    ]
    row = found[0]
    line = (
        f"--problem boyan --width 5 --rule {learned or row['learned']} --steps 7 --runs 3 --seed 5 "
        f"--measure-every 3 --sampling {sampling} --body-step {row['body_step']} "
        f"--head-step {row['head_step']} --auxiliary-step {row['auxiliary_step']} --out single"
    )
    assert evaluate(line).status == 0
    single = read(tmp_path / "single" / "metrics.csv")
    error = single.values("error/rmsve")
    assert float(row["final_rmsve"]) == pytest.approx(error[-1].mean(), rel=1e-14)
    assert float(row["auc_rmsve"]) == pytest.approx(error.mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("line", "fresh"),
    [
        ("--width 5 --rule td tdc --body-steps 2^-7 2^-3 --ratios 1 8 --fresh-runs 2", True),
        ("--width 5 --rule td tdc --body-steps 0.01 2^-3 --ratios inf --hidden", True),
        ("--features given --rule tdc --head-steps 2^-5 2^-2 --fresh-runs 0", False),
    ],
)
def test_the_winner_is_printed_as_the_line_that_runs_it(study, evaluate, tmp_path, line, fresh):
    status, out, error = study(
        f"{line} --problem boyan --steps 7 --runs 3 --measure-every 3 --workers 1 --epsilon 2^-9 "
        "--gamma 0.9 --select final_rmsve --auxiliary-ratios 0.3 --controls --out s"
    )
    assert status == 0, error
    (shown,) = [each for each in out.splitlines() if each.startswith("best: ")]
    words = shlex.split(shown)[1:]
    assert words[:3] == ["python", "-m", "experiments.evaluate_policy"]
    outcome = evaluate(shlex.join([*words[3:], "--out", "winner"]))
    assert (outcome.status, "has no effect" in outcome.error) == (0, False), outcome.error
    final = read(tmp_path / "winner" / "metrics.csv").values("error/rmsve")[-1]
    if fresh:
        rows = rows_of(tmp_path / "s" / "selected-final_rmsve.csv")
        best = min(rows, key=lambda row: float(row["selected_by_final_rmsve"]))
    else:
        rows = rows_of(tmp_path / "s" / "sweep.csv")
        best = min(rows, key=lambda row: float(row["final_rmsve"]))
    assert float(best["final_rmsve"]) == pytest.approx(final.mean(), rel=1e-9)
    assert len(final) == int(best["runs"])


@pytest.mark.parametrize("rule", ["tdc", "semi_gradient+lstd"])
def test_runs_of_a_shard_are_the_bits_of_the_single_run(evaluate, tmp_path, rule):
    line = f"--problem garnet --rule {rule} --steps 7 --runs 3 --measure-every 3 --seed 2 --out one"
    sizes = (0.125, 1.0 if rule.endswith("lstd") else 0.25, 0.0625)
    flags = zip(("body", "head", "auxiliary"), sizes)
    assert evaluate(" ".join([line, *(f"--{f}-step {size}" for f, size in flags)])).status == 0
    single = read(tmp_path / "one" / "metrics.csv")
    settings = EvaluationSettings(
        problem="garnet", rule=(rule,), runs=3, steps=7, measure_every=3, seed=2
    )
    others = [(0.5, 1.0, 0.5), sizes, (0.25, 1.0, 0.125), (0.25, 1.0, 0.5)]
    results = run_shard(Shard("x", settings, others, 1, False, True))
    ours = {name: results[f"curve/{name}"][:, 1] for name in ("rmsve", "rmspbe", "lstd_rmsve")}
    # What is learned is the same to the bit; the rounding of the evaluator's batched float64
    # products depends on how many runs are measured at once.
    np.testing.assert_array_equal(ours["rmsve"], single.values("error/rmsve"), strict=True)
    for name in ours:
        np.testing.assert_allclose(ours[name], single.values(f"error/{name}"), rtol=1e-9)


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(study, tmp_path, monkeypatch):
    assert study(f"{LINE} --out whole")[0] == 0
    original, calls = engines.run_shard, []

    def stopping(shard, on_progress):
        calls.append(shard.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(shard, on_progress)

    monkeypatch.setattr(engines, "run_shard", stopping)
    status, _, error = study(f"{LINE} --out parts")
    assert status == 130
    assert error.splitlines()[-1].endswith("--out parts --resume")
    done = set(shards_of(tmp_path / "parts"))
    assert len(done) == 2
    calls.clear()
    calls += ["one", "two", "three"]
    assert study(f"{LINE} --out parts --resume")[0] == 0
    assert not {name + ".pt" for name in calls} & done
    assert shards_of(tmp_path / "parts") == shards_of(tmp_path / "whole")
    for name in ("sweep.csv", "selected-auc_rmsve.csv", "selected-auc_rmsve.md"):
        one, other = (tmp_path / folder / name for folder in ("parts", "whole"))
        assert one.read_bytes() == other.read_bytes()


def test_a_study_is_resumed_whatever_the_threads_of_the_process_that_leads_it(study, tmp_path):
    # PyTorch begins with a thread a core; the shards have theirs from --threads.
    torch.set_num_threads(2)
    assert study(f"{LINE} --fresh-runs 0 --out s")[0] == 0
    assert json.loads((tmp_path / "s" / "config.json").read_text())["threads"] == 1
    torch.set_num_threads(3)
    assert study(f"{LINE} --fresh-runs 0 --out s --resume")[0] == 0


def test_a_resumed_study_with_other_settings_is_refused(study, finished):
    status, _, error = study(f"{LINE.replace('--steps 7', '--steps 9')} --fresh-runs 0 --out s")
    assert status == 2
    assert "--out s holds a run already" in error
    changed = f"{LINE.replace('--steps 7', '--steps 9')} --fresh-runs 0 --out s --resume"
    status, _, error = study(changed)
    assert status == 2
    assert "--steps 9 differs from the 7" in error


def test_a_damaged_shard_is_named(study, finished):
    path = sorted((finished / "parts").iterdir())[0]
    path.write_bytes(path.read_bytes()[:100])
    status, _, error = study(f"{LINE} --fresh-runs 0 --out s --resume")
    assert status == 2
    assert f"{path.name} is damaged" in error
    assert len(error.strip().splitlines()) <= 12


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("--body-steps 2^0:2^-3", "--body-steps 2^0:2^-3 is empty"),
        ("--body-steps 0.5 2^-1", "--body-steps has 0.5 twice, a duplicate configuration"),
        ("--ratios 0 1", "--ratios 0 is not allowed: give a number above 0, or inf"),
        ("--auxiliary-ratios inf", "--auxiliary-ratios inf is not allowed"),
        ("--rule td td", "--rule names td 2 times"),
        ("--rule tdd", "did you mean td"),
        ("--width 30", "--width 30: so many features span the 12 states"),
        ("--runs 0", "--runs 0 is not allowed"),
        ("--workers 0", "--workers 0 is not allowed"),
        ("--memory 0", "--memory 0 is not allowed"),
        ("--memory 9000", "--memory 9000 is more than cpu has free: give at most "),
        ("--memory 0.5", "--memory 0.5: one configuration of td on boyan with 3 runs needs about"),
        ("--select auc_rms", "--select 'auc_rms' is not one of"),
        (
            "--select final_rmstde",
            "--select final_rmstde: boyan does not measure it, it needs transitions that are held "
            "out; give one of auc_rmsve, auc_rmspbe, auc_lstd_rmsve, auc_best_linear_rmsve,",
        ),
        ("--baseline tdrc", "--baseline 'tdrc' is not one of td, tdc"),
        ("--engine spark", "--engine 'spark' is not one of local, ray"),
        ("--address 127.0.0.1:1", "--address 127.0.0.1:1 has no effect with --engine local, only"),
        ("--head-steps 3", "--head-steps 3 has no effect where all bodies learn"),
        ("--psi fourier", "--psi fourier has no effect with --rule td, only with generalized"),
        ("--truth-states 9", "--truth-states 9 has no effect on boyan"),
        ("--head-steps 2^0.5", "--head-steps '2^0.5' is not a number, a power such as 2^-3"),
        ("--problem nowhere", "--problem 'nowhere' is not known"),
        ("--study nowhere.toml", "--study nowhere.toml cannot be read"),
        ("--resume", "--out s does not exist; leave out --resume"),
    ],
)
def test_what_a_study_cannot_use_is_one_line(study, tmp_path, changed, said):
    flag = changed.split()[0]
    parts = [
        part for part in LINE.removeprefix("--").split(" --") if f"--{part.split()[0]}" != flag
    ]
    kept = " ".join(f"--{part}" for part in parts)
    status, _, error = study(f"{kept} {changed} --out s")
    assert status == 2
    assert said in error, error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_a_grid_that_no_rule_goes_through_is_refused(study):
    line = "--problem boyan --rule td frozen+tdc --steps 5 --runs 2 --workers 1 --out s"
    for flag in ("--ratios", "--body-steps"):
        status, _, error = study(f"{line} --features given {flag} 3")
        assert status == 2
        assert error == f"error: {flag} 3 has no effect where no body learns: give --head-steps\n"
    status, _, error = study(f"{line.replace('frozen+tdc', '')} --auxiliary-ratios 3")
    assert status == 2
    assert "--auxiliary-ratios 3 has no effect with --rule td: no rule keeps an aux" in error
    # One of the rules goes through it.
    given = "--head-steps 3 --body-steps 3 --ratios 3 --auxiliary-ratios 1 --fresh-runs 0"
    assert study(f"{line} {given}")[0] == 0


def test_without_a_problem_or_a_rule_it_is_said(study):
    assert "--problem must be given, or --study" in study("--rule td")[2]
    assert "--rule must be given, or --study" in study("--problem boyan")[2]


def test_a_ratio_that_a_rule_does_not_have_is_counted_among_what_was_dropped(study, tmp_path):
    status, _, error = study(f"{LINE.replace('td tdc', 'ttn')} --fresh-runs 0 --out s")
    assert status == 0, error
    (line,) = json.loads((tmp_path / "s" / "summary.json").read_text())["dropped"]
    assert line == "boyan, markov: ttn: ratio inf left out, its head is not one that can be solved"
    assert len(rows_of(tmp_path / "s" / "sweep.csv")) == 8


def test_shards_are_kept_under_names_of_their_content(study, finished, tmp_path):
    assert study(f"{LINE} --fresh-runs 0 --seed 1 --out t")[0] == 0
    assert not set(shards_of(finished)) & set(shards_of(tmp_path / "t"))
    store = FinishedParts(finished)
    assert store.seconds > 0


def test_a_compiled_shard_has_a_round_number_of_configurations_and_returns_its_own(monkeypatch):
    settings = EvaluationSettings(problem="garnet", rule=("td",), runs=3, steps=7, measure_every=3)
    several = [(0.5, 1.0, 0.5), (0.25, 0.5, 0.25)]
    eager = run_shard(Shard("x", settings, several, 1, False, True))
    populations = []

    def uncompiled(algorithm, state, *given, compiled, **more):
        populations.append((compiled, len(state.parameters.head)))
        return learn(algorithm, state, *given, compiled=False, **more)

    monkeypatch.setattr(shard_module, "learn", uncompiled)
    rounded = run_shard(Shard("x", settings, several, 1, True, True))
    assert populations == [(True, CONFIGURATIONS_TOGETHER * 3)]
    assert rounded.keys() == eager.keys()
    for name, values in eager.items():
        np.testing.assert_allclose(rounded[name], values, rtol=1e-9)
