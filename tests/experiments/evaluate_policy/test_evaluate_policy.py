"""What a run leaves on the disk and on the screen."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import random_walk_tabular
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.results.history import read
from experiments.runs.results.phases import PHASES
from neural_tdc import load_value
from tests.experiments.evaluate_policy.command_lines import RUN_FILES, TINY, WALK
from tests.experiments.run_files import names, strict

TRUTH = "--truth-states 4 --truth-rollouts 2 --held-out 50"


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
    assert settings - {"out", "resume", "overwrite", "vector"} <= config.keys()
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
    assert list(summary["seconds"]) == list(PHASES)
    assert all(summary["seconds"][phase] > 0 for phase in ("learn", "measure", "write"))
    learning = summary["seconds"]["learn"]
    assert summary["run_steps_per_second"] == pytest.approx(30 / learning, rel=1e-2)
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
