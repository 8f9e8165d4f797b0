"""What a run leaves on the disk and on the screen."""

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import random_walk_tabular
from experiments.evaluate_policy import __main__ as program
from experiments.evaluate_policy import build as evaluation_plan
from experiments.evaluate_policy.settings import EvaluationSettings
from experiments.runs.history import read
from neural_tdc import load_value

WALK = "--problem random-walk-tabular --compile off"
TINY = "--runs 3 --steps 10 --measure-every 4"
TRUTH = "--truth-states 4 --truth-rollouts 2 --held-out 50"


def strict(path):
    """Read JSON that may hold neither NaN nor infinity."""

    def never(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(), parse_constant=never)


def names(folder):
    return {path.name.partition(".tfevents")[0] for path in folder.iterdir()}


def leaves(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["leaves"]


RUN_FILES = {
    "config.json",
    "events.out",
    "metrics.csv",
    "summary.json",
    "figure.png",
    "value.pt",
    "checkpoint.pt",
}


def test_one_rule_is_one_folder_with_all_its_files_and_a_real_figure(evaluate, tmp_path):
    outcome = evaluate(f"{WALK} {TINY} --rule tdc --out run", figure=True)
    assert outcome.status == 0, outcome.error
    assert names(tmp_path / "run") == RUN_FILES
    assert (tmp_path / "run" / "figure.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_without_out_the_folder_is_named_after_the_problem(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td").status == 0
    assert names(tmp_path / "runs" / "random-walk-tabular") == RUN_FILES


def test_the_configuration_holds_every_setting_and_what_the_run_was_made_with(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td --seed 7 --out run").status == 0
    config = strict(tmp_path / "run" / "config.json")
    settings = {field.name for field in dataclasses.fields(EvaluationSettings)}
    assert settings - {"out", "resume", "overwrite"} <= config.keys()
    # What may be left out stands there as it was chosen.
    chosen = ("steps", "seed", "head_step", "auxiliary_step", "gamma", "width", "hidden", "device")
    assert [config[name] for name in chosen] == [10, 7, 0.01, 0.01, 1.0, 2, [32], "cpu"]
    assert config["optimizer"] == ["sgd", "sgd", "sgd"]
    assert config["compiled"] is False
    assert config["versions"].keys() >= {"neural_tdc", "python", "torch", "numpy", "gymnasium"}
    assert config.keys() >= {"commit", "dirty", "device_name", "threads", "platform", "date"}


def test_metrics_hold_a_row_a_measurement_and_run_with_every_group(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule tdc --out run").status == 0
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["step", "run", "diverged"]
    history = read(tmp_path / "run" / "metrics.csv")
    assert history.steps.tolist() == [1, 5, 9, 10]
    assert history.runs == 3
    assert {*history.names} >= {
        *("error/rmsve", "error/rmspbe", "error/lstd_rmsve", "error/best_linear_rmsve"),
        *("tracking_error/head", "tracking_error/auxiliary", "tracking_error/auxiliary_size"),
        *("step_size/body", "step_size/head", "step_size/auxiliary"),
        *("features/smallest_eigenvalue", "features/effective_rank"),
        *("norm/body", "norm/head", "norm/auxiliary"),
    }


@pytest.mark.parametrize(("steps", "every", "measured"), [(1, 100, [1]), (3, 50, [1, 3])])
def test_fewer_steps_than_a_measurement_apart_are_measured_first_and_last(
    evaluate, tmp_path, steps, every, measured
):
    line = f"{WALK} --runs 1 --steps {steps} --measure-every {every} --rule td --out run"
    assert evaluate(line).status == 0
    assert read(tmp_path / "run" / "metrics.csv").steps.tolist() == measured


def test_step_sizes_are_recorded_as_they_were_at_that_step(evaluate, tmp_path):
    sizes = "--head-step 0.4 --auxiliary-step 0.2 --body-step 0.1 --schedule polynomial:1,0.5,0"
    assert evaluate(f"{WALK} {TINY} --rule tdc {sizes} --dtype float64 --out run").status == 0
    history = read(tmp_path / "run" / "metrics.csv")
    # Update k = 0, 4, 8, 9 were the last ones before these measurements.
    count = np.array([1, 5, 9, 10])[:, None] * np.ones(3)
    for part, expected in (
        ("body", 0.1 / count),
        ("head", 0.4 / np.sqrt(count)),
        ("auxiliary", 0.2 + 0 * count),
    ):
        np.testing.assert_allclose(history.values(f"step_size/{part}"), expected, rtol=1e-12)


def test_the_summary_keeps_its_contract(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule tdc --seed 4 --out run").status == 0
    summary = strict(tmp_path / "run" / "summary.json")
    assert {name: summary[name] for name in ("problem", "rule", "runs", "steps", "seed")} == {
        "problem": "random-walk-tabular",
        "rule": "tdc",
        "runs": 3,
        "steps": 10,
        "seed": 4,
    }
    assert summary["diverged"] == 0
    assert summary["seconds"] > 0
    assert summary["run_steps_per_second"] == pytest.approx(30 / summary["seconds"])
    for metric in ("rmsve", "rmspbe", "lstd_rmsve"):
        for kind in ("final", "auc"):
            entry = summary["metrics"][metric][kind]
            assert entry.keys() == {"mean", "low", "high", "median"}
            assert entry["low"] <= entry["mean"] <= entry["high"]
    history = read(tmp_path / "run" / "metrics.csv")
    rmsve = history.values("error/rmsve")
    assert summary["metrics"]["rmsve"]["final"]["mean"] == pytest.approx(rmsve[-1].mean())
    assert summary["metrics"]["rmsve"]["auc"]["mean"] == pytest.approx(rmsve.mean())


def test_the_saved_value_function_has_the_error_that_was_measured_last(evaluate, tmp_path):
    line = f"{WALK} {TINY} --rule tdc --head-step 0.3 --dtype float64"
    assert evaluate(f"{line} --out run").status == 0
    values = load_value(tmp_path / "run").of_runs(torch.arange(5)).numpy()
    walk = chain(random_walk_tabular())
    squared = (values - walk.value().numpy()) ** 2 @ walk.weighting.numpy()
    measured = read(tmp_path / "run" / "metrics.csv").last("error/rmsve")
    np.testing.assert_allclose(np.sqrt(squared), measured, rtol=1e-10)


def test_one_run_has_no_interval(evaluate, tmp_path):
    assert evaluate(f"{WALK} --runs 1 --steps 2 --rule td --out run").status == 0
    entry = strict(tmp_path / "run" / "summary.json")["metrics"]["rmsve"]["final"]
    assert entry["mean"] == entry["median"] > 0
    assert (entry["low"], entry["high"]) == (None, None)


def test_tensorboard_has_every_group_with_intervals_and_speed(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule tdc --out run").status == 0
    log = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    log.Reload()
    tags = {*log.Tags()["scalars"]}
    assert tags >= {
        *("error/rmsve", "error/rmspbe", "error/lstd_rmsve"),
        *("interval/error/rmsve/low", "interval/error/rmsve/high"),
        *("tracking_error/head", "tracking_error/auxiliary", "tracking_error/auxiliary_size"),
        *("step_size/body", "step_size/head", "step_size/auxiliary"),
        *("features/smallest_eigenvalue", "features/effective_rank"),
        *("norm/body", "norm/head", "norm/auxiliary"),
        *("speed/run_steps_per_second", "runs/diverged"),
    }
    history = read(tmp_path / "run" / "metrics.csv")
    logged = log.Scalars("error/rmsve")
    assert [event.step for event in logged] == [1, 5, 9, 10]
    np.testing.assert_allclose(
        [event.value for event in logged], history.values("error/rmsve").mean(1), rtol=1e-6
    )
    assert all(event.value > 0 for event in log.Scalars("speed/run_steps_per_second"))


def test_the_screen_shows_problem_table_figure_and_the_line_that_starts_tensorboard(evaluate):
    outcome = evaluate(f"{WALK} {TINY} --rule tdc semi_gradient+lstd --out run")
    lines = outcome.out.splitlines()
    assert lines[0] == "random-walk-tabular: off-policy, on cpu"
    (head,) = [line for line in lines if line.startswith("rule")]
    for title in ("RMSVE", "RMSPBE", "LSTD-RMSVE", "diverged"):
        assert title in head
    assert [line.split()[0] for line in lines if line.endswith("0 of 3")] == [
        "tdc",
        "semi_gradient+lstd",
    ]
    assert f"figure: {os.path.join('run', 'figure.png')}" in lines
    (watch,) = [line for line in lines if line.startswith("watch:")]
    assert "tensorboard" in watch
    assert watch.endswith("--logdir run")
    # Progress goes to standard error, with speed and time left.
    assert "tdc on random-walk-tabular: 10 of 10 steps (100 %), 0 s left" in outcome.error
    assert "run-steps a second, RMSVE" in outcome.error


def test_several_rules_have_a_folder_each_and_a_common_figure_and_summary(
    evaluate, tmp_path, monkeypatch
):
    rules = ("tdc", "td", "semi_gradient+lstd")
    assert evaluate(f"{WALK} {TINY} --rule {' '.join(rules)} --out run").status == 0
    common = {"config.json", "summary.json", "figure.png"}
    assert names(tmp_path / "run") == {*common, *rules}
    summaries = strict(tmp_path / "run" / "summary.json")
    assert list(summaries) == list(rules)
    for rule in rules:
        assert names(tmp_path / "run" / rule) == RUN_FILES
        assert strict(tmp_path / "run" / rule / "summary.json") == summaries[rule]
        config = strict(tmp_path / "run" / rule / "config.json")
        assert (config["rule"], config["runs"]) == ([rule], 3)
        drawn = (tmp_path / "run" / rule / "figure.png").read_text()
        assert drawn == f"Policy evaluation on random-walk-tabular: {rule} {rule}"
    config = strict(tmp_path / "run" / "config.json")
    assert (config["rule"], config["folders"]) == (list(rules), list(rules))
    drawn = (tmp_path / "run" / "figure.png").read_text()
    assert drawn == "Policy evaluation on random-walk-tabular " + " ".join(rules)


def test_a_rule_beside_others_does_what_it_does_alone(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td generalized tdc --out several").status == 0
    assert evaluate(f"{WALK} {TINY} --rule tdc --out alone").status == 0
    beside, alone = tmp_path / "several" / "tdc" / "metrics.csv", tmp_path / "alone" / "metrics.csv"
    assert beside.read_bytes() == alone.read_bytes()


def test_rules_learn_from_the_same_experience_and_initial_values(evaluate, tmp_path):
    # With ω held at 0 and the body still, Algorithm 1's head is TD's, if the experience is.
    steps = "--head-step 0.3 --auxiliary-step 0 --body-step 0"
    assert evaluate(f"{WALK} {TINY} --rule tdc td frozen+td {steps} --out run").status == 0
    tdc, td, frozen = (
        read(tmp_path / "run" / rule / "metrics.csv") for rule in ("tdc", "td", "frozen+td")
    )
    for metric in ("error/rmsve", "error/lstd_rmsve", "norm/body", "norm/head"):
        np.testing.assert_array_equal(tdc.values(metric), td.values(metric), strict=True)
        np.testing.assert_array_equal(tdc.values(metric), frozen.values(metric))
    # Runs are different ones, and they learn.
    assert len({*td.last("error/rmsve")}) == 3


def test_step_sizes_of_0_leave_every_rule_where_it_began(evaluate, tmp_path):
    steps = "--head-step 0 --body-step 0"
    rules = ("gtd2", "residual", "nonlinear-tdc")
    assert evaluate(f"{WALK} {TINY} --rule {' '.join(rules)} {steps} --out run").status == 0
    errors = [read(tmp_path / "run" / rule / "metrics.csv").values("error/rmsve") for rule in rules]
    for error in errors:
        np.testing.assert_array_equal(error, np.full_like(error, errors[0][0, 0]))


def test_the_same_seed_gives_the_same_bits_and_another_one_others(evaluate, tmp_path):
    line = f"{WALK} {TINY} --rule tdc"
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        assert evaluate(f"{line} --seed {seed} --out {name}").status == 0
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    pairs = zip(leaves(first), leaves(second), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)
    assert (first / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes()


def test_a_run_does_not_depend_on_how_many_others_there_are(evaluate, tmp_path):
    line = f"{WALK} --steps 10 --measure-every 4 --rule tdc --dtype float64"
    assert evaluate(f"{line} --runs 2 --out few").status == 0
    assert evaluate(f"{line} --runs 5 --out many").status == 0
    few, many = (read(tmp_path / name / "metrics.csv") for name in ("few", "many"))
    for metric in ("error/rmsve", "norm/body"):
        np.testing.assert_allclose(
            few.values(metric), many.values(metric)[:, :2], rtol=1e-12, atol=0
        )


def test_a_body_step_of_0_is_legal_and_leaves_the_body(evaluate, tmp_path):
    line = f"{WALK} {TINY} --rule tdc --head-step 0.5"
    assert evaluate(f"{line} --body-step 0 --out still").status == 0
    assert evaluate(f"{line} --body-step 0.5 --out moving").status == 0
    still, moving = (
        read(tmp_path / name / "metrics.csv").values("norm/body") for name in ("still", "moving")
    )
    np.testing.assert_array_equal(still, np.broadcast_to(still[0], still.shape))
    assert np.any(moving[-1] != moving[0])


def test_when_all_runs_diverge_there_are_nulls_one_warning_and_status_0(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 1e6 --runs 2 --steps 30 --compile off"
    outcome = evaluate(f"{line} --measure-every 10 --rule td --out run", figure=True)
    assert outcome.status == 0, outcome.error
    warnings = [each for each in outcome.lines if "warning" in each.lower()]
    assert warnings == [
        "warning: td: all 2 runs diverged, so there are no results; smaller step sizes may help"
    ]
    assert "2 of 2" in outcome.out
    summary = strict(tmp_path / "run" / "summary.json")
    assert summary["diverged"] == 2
    none = {"mean": None, "low": None, "high": None, "median": None}
    assert summary["metrics"]["rmsve"] == {"final": none, "auc": none}
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("30,1,1,,")
    assert (tmp_path / "run" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_rule_that_diverges_leaves_the_others_their_results(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 1e6 --runs 2 --steps 30 --compile off"
    outcome = evaluate(f"{line} --rule td frozen+lstd --out run")
    assert outcome.status == 0
    summaries = strict(tmp_path / "run" / "summary.json")
    assert [summaries[rule]["diverged"] for rule in ("td", "frozen+lstd")] == [2, 0]
    assert summaries["frozen+lstd"]["metrics"]["rmspbe"]["final"]["mean"] >= 0
    assert sum("diverged, so" in each for each in outcome.lines) == 1


def test_given_features_begin_at_the_head_that_the_problem_prescribes(evaluate, tmp_path):
    line = "--problem baird --features given --head-step 0 --runs 2 --steps 2 --compile off"
    assert evaluate(f"{line} --rule tdc --out run").status == 0
    history = read(tmp_path / "run" / "metrics.csv")
    np.testing.assert_allclose(history.values("norm/head"), np.sqrt(107), rtol=1e-6)
    assert strict(tmp_path / "run" / "config.json")["width"] == 8


def test_a_gymnasium_problem_is_evaluated_with_the_error_of_its_truth_on_the_screen(
    evaluate, tmp_path
):
    line = f"--problem CartPole-v1 --behaviour uniform {TINY} {TRUTH} --compile off"
    outcome = evaluate(f"{line} --rule tdc --gamma 0.9 --out run")
    assert outcome.status == 0, outcome.error
    lines = outcome.out.splitlines()
    said = "off-policy, target balancing with ε = 0.3, behaviour uniform"
    assert lines[0] == f"CartPole-v1: {said}, on cpu"
    assert "truth of CartPole-v1: 4 states, 2 rollouts each" in lines[1]
    assert "standard error" in lines[1]
    history = read(tmp_path / "run" / "metrics.csv")
    assert {*history.names} >= {"error/rmsve", "error/rmspbe", "error/lstd_rmsve", "error/rmstde"}
    config = strict(tmp_path / "run" / "config.json")
    assert (config["gamma"], config["width"], config["behaviour"]) == (0.9, 16, "uniform")


# Folders


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("a run", "holds a run already; give another folder, --resume to go on"),
        ("thesis.txt", "holds files that are no run's (thesis.txt)"),
        ("a file", "is a file"),
    ],
)
def test_a_folder_that_holds_something_is_refused_and_left_alone(evaluate, tmp_path, found, said):
    if found == "a run":
        assert evaluate(f"{WALK} {TINY} --rule td --out run").status == 0
    elif found == "a file":
        (tmp_path / "run").touch()
    else:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / found).touch()
    before = contents(tmp_path)
    for rules in ("td", "td tdc"):
        outcome = evaluate(f"{WALK} {TINY} --rule {rules} --out run")
        assert outcome.status == 2
        assert outcome.lines == [outcome.error.strip()]
        assert f"--out run {said}" in outcome.error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_one_line_and_nothing_is(evaluate, tmp_path, out):
    if out.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("there is no /proc here")
    (tmp_path / "file").touch()
    for rules in ("td", "td tdc"):
        outcome = evaluate(f"{WALK} {TINY} --rule {rules} --out {out}")
        assert outcome.status == 2
        assert outcome.lines == [outcome.error.strip()]
        assert f"--out {out} cannot be written" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_is_refused(evaluate, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    outcome = evaluate(f"{WALK} {TINY} --rule td --out locked/run")
    assert outcome.status == 2
    assert "--out locked/run cannot be written" in outcome.error


def test_overwriting_replaces_a_run_but_not_before_all_is_checked(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td tdc --out run").status == 0
    before = contents(tmp_path)
    wrong = evaluate(f"{WALK} {TINY} --rule td --head-step -3 --out run --overwrite")
    assert wrong.status == 2
    assert contents(tmp_path) == before
    assert evaluate(f"{WALK} {TINY} --rule gtd2 --out run --overwrite").status == 0
    assert names(tmp_path / "run") == RUN_FILES


def test_resuming_what_is_not_there_is_refused(evaluate, tmp_path):
    outcome = evaluate(f"{WALK} {TINY} --rule td --out run --resume")
    assert outcome.status == 2
    assert "--out run does not exist; leave --resume away" in outcome.error
    assert list(tmp_path.iterdir()) == []


# Compilation


def test_a_long_run_is_compiled_and_a_short_one_is_not(evaluate):
    settings = EvaluationSettings(problem="boyan", rule=("td",))
    for steps, how, compiled in (
        (program.UPDATES_WORTH_COMPILING, "auto", True),
        (program.UPDATES_WORTH_COMPILING - 1, "auto", False),
        (1, "on", True),
        (10**6, "off", False),
    ):
        chosen = dataclasses.replace(settings, steps=steps, compile=how)
        assert program._compiled(chosen, evaluation_plan.evaluation_plan(chosen)) == (
            compiled,
            None,
        )


def test_without_a_compiler_the_run_is_eager_with_a_warning(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "compiler_available", lambda device: False)
    line = f"--problem boyan {TINY} --compile on --rule td --out run"
    outcome = evaluate(line)
    assert outcome.status == 0
    assert outcome.lines[0].startswith("warning: --compile on: there is no C++ compiler")
    assert strict(tmp_path / "run" / "config.json")["compiled"] is False
    assert evaluate(f"{line} --resume").status == 0


BODY = "def body(shape):\n    return torch.nn.Linear(shape[0], 3)"


def test_a_body_of_ones_own_that_cannot_be_compiled_is_refused_or_runs_eagerly(
    evaluate, own, tmp_path, monkeypatch
):
    tried = program.try_update

    def try_update(*arguments, compiled=False):
        if compiled:
            raise RuntimeError("Unsupported\nmany more lines")
        tried(*arguments)

    monkeypatch.setattr(program, "try_update", try_update)
    monkeypatch.setattr(program, "compiler_available", lambda device: True)
    monkeypatch.setattr(program, "UPDATES_WORTH_COMPILING", 5)
    body = f"{own(BODY)}:body"
    line = f"--problem boyan {TINY} --rule td --body {body}"
    outcome = evaluate(f"{line} --compile on --out on")
    assert outcome.status == 2
    said = f"error: --compile on: --body {body} cannot be compiled: Unsupported"
    assert outcome.lines == [said]
    assert not (tmp_path / "on").exists()
    outcome = evaluate(f"{line} --compile auto --out auto")
    assert outcome.status == 0
    assert outcome.lines[0] == f"warning: --body {body} runs without compilation: Unsupported"
    assert strict(tmp_path / "auto" / "config.json")["compiled"] is False
