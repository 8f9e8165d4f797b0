"""The program that measures rates: its command line, its folder, its numbers."""

import csv
import functools
import json
import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.convergence import __main__ as program
from experiments.convergence import descents as convergence_descents
from experiments.convergence.descents import PACES, Population, descents, measured_updates
from experiments.convergence.instances import scalar_descent
from experiments.convergence.stochastic_approximation import descend
from experiments.convergence.structure import (
    kink,
    least_curvatures,
    scalar_curves,
    without_ridge,
)
from experiments.convergence.tables import slope_interval
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.runs.recording import recorder
from experiments.runs.results.history import History, cut, read
from experiments.runs.results.intervals import statistic_interval


@pytest.fixture
def seldom(monkeypatch):
    """Measure seldom, which takes longest, and return when that is."""
    seldom = functools.partial(measured_updates, points=6)
    monkeypatch.setattr(convergence_descents, "measured_updates", seldom)
    return seldom


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figure."""
    monkeypatch.setattr("experiments.convergence.run.draw_convergence", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--instance scaler", "--instance 'scaler' is not one of scalar, regression, chain"),
        ("--instance scalar scalar", "--instance names scalar 2 times"),
        ("--runs 1", "--runs 1 is not allowed: give a whole number of at least 2"),
        ("--steps 99", "--steps 99 is not allowed"),
        ("--steps 1000 --fit-from 501", "--fit-from 501 is not allowed: give at most half"),
        ("--fit-from 0", "--fit-from 0 is not allowed"),
        ("--first-step 0", "--first-step 0 is not allowed: give a finite number above 0"),
        ("--offset -3", "--offset -3 is not allowed"),
        ("--smoothing nan", "--smoothing nan is not allowed"),
        ("--seed -1", "--seed -1 is not allowed"),
        ("--steps many", "--steps 'many' is not a whole number"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(refused, line, said):
    refused(program.convergence, line, said)


def test_a_run_is_a_folder_whose_numbers_come_again_from_the_same_command(
    run_program, tmp_path, monkeypatch, seldom
):
    line = "--instance scalar chain --runs 3 --steps 120 --fit-from 40 --out"
    shown = run_program(program.convergence, f"{line} one")
    assert shown.status == 0
    assert "watch:" in shown.out
    assert "ReLU's kink: slopes 0.0000 and -0.4167, in closed form 0 and -0.4167" in shown.out
    assert "left" in shown.error
    one = tmp_path / "one"
    names = {path.name.split(".")[0] for path in one.iterdir()}
    assert names == {"config", "metrics", "summary", "figure", "events", "checkpoint"}
    assert (one / "figure.png").stat().st_size > 100_000
    summary = json.loads((one / "summary.json").read_text())
    assert (summary["runs"], summary["steps"], summary["diverged"]) == (3, 120, 0)
    for of_instance in summary["slopes"].values():
        for of_schedule in of_instance.values():
            for entry in of_schedule.values():
                assert entry["low"] <= entry["mean"] <= entry["high"]
    again = run_program(program.convergence, f"{line} one")
    assert again.status == 2
    assert "holds a run already" in again.error
    monkeypatch.setattr("experiments.convergence.run.draw_convergence", lambda *_, **__: None)
    assert run_program(program.convergence, f"{line} two").status == 0
    assert (tmp_path / "two" / "metrics.csv").read_bytes() == (one / "metrics.csv").read_bytes()


def test_the_first_runs_do_not_depend_on_how_many_there_are_nor_on_later_updates():
    few, many = (
        dict(
            descents([Population("regression", PACES["regression"], runs, 5)], updates, 0.1, print)
        )
        for runs, updates in ((2, 100), (3, 1100))
    )
    shared = sorted(few.keys() & many.keys())
    assert len(shared) > 5
    for update in shared:
        for name, values in few[update].items():
            np.testing.assert_allclose(many[update][name][:2], values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("done", [13, 14, 15])
def test_a_population_goes_on_from_its_parameters_to_the_bits_of_one_never_stopped(
    monkeypatch, done
):
    monkeypatch.setattr(convergence_descents, "BLOCK", 7)
    whole, stopped, resumed = (Population("chain", PACES["chain"], 3, 2) for _ in range(3))
    whole.advance(30)
    stopped.advance(done)
    resumed.resume(list(stopped.parameters), stopped.done)
    resumed.advance(30)
    for one, other in zip(resumed.parameters, whole.parameters, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(stopped.parameters.body, whole.parameters.body)


def test_a_resumed_run_takes_only_the_updates_after_its_last_measurement(
    run_program, tmp_path, monkeypatch, seldom, undrawn
):
    line = "--instance scalar chain --runs 2 --steps 110 --out run"
    taken = []

    def counted(instance, parameters, steps, samples):
        if len(taken) == 9:
            raise KeyboardInterrupt
        taken.append(len(samples))
        return descend(instance, parameters, steps, samples)

    monkeypatch.setattr(convergence_descents, "descend", counted)
    assert run_program(program.convergence, line).status == 130
    # Both instances had been measured four times, and the first had gone further.
    done = seldom(110)[3]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == done
    assert sum(taken[:8]) == 2 * done
    taken[:] = [0] * 100
    assert run_program(program.convergence, f"{line} --resume").status == 0
    assert sum(taken) == 2 * (110 - done)
    taken[:] = [0] * 9
    assert run_program(program.convergence, f"{line} --resume").status == 0
    assert len(list((tmp_path / "run").glob("events*"))) == 2


@pytest.mark.usefixtures("seldom", "undrawn")
def test_a_checkpoint_never_knows_more_than_the_files_beside_it(run_program, tmp_path, monkeypatch):
    known = []

    def saved(path, state):
        events = EventAccumulator(str(path.parent)).Reload().Scalars("scalar/uniform/body")
        steps = read(path.parent / "metrics.csv").steps
        known.append((int(steps[-1]), events[-1].step, state["step"]))

    monkeypatch.setattr(recorder, "save_checkpoint", saved)
    line = "--instance scalar --runs 2 --steps 100 --out run"
    assert run_program(program.convergence, line).status == 0
    assert len(known) > 5
    assert all(table == events == update for table, events, update in known)


@pytest.mark.usefixtures("seldom", "undrawn")
def test_a_table_that_has_lost_measurements_is_named(run_program, refused, tmp_path):
    line = "--instance scalar --runs 2 --steps 100 --out run"
    assert run_program(program.convergence, line).status == 0
    cut(tmp_path / "run" / "metrics.csv", 90)
    refused(
        program.convergence,
        f"{line} --resume",
        "run/metrics.csv ends before step 100, at which run/checkpoint.pt resumes: it has lost "
        "measurements; use --overwrite to start again\n",
    )


def test_updates_are_measured_from_the_first_to_the_last():
    updates = measured_updates(5000)
    assert (updates[0], updates[-1]) == (1, 5000)
    assert updates == sorted(set(updates))


def test_a_slope_s_interval_holds_the_slope_of_noisy_powers():
    numbers = np.random.default_rng(0)
    history = History()
    for step in (1, 10, 30, 100, 300, 1000):
        noise = numbers.gamma(4.0, 0.25, 50)
        history.append(step, {"a/b": step**-0.7 * noise}, np.zeros(50, dtype=bool))
    found = slope_interval(history, "a/b", 10)
    assert found.low < -0.7 < found.high
    assert found.low < found.mean < found.high
    assert found.high - found.low < 0.3
    # The first point is left out: had it been used, the slope would be another.
    assert float(found.mean) != float(slope_interval(history, "a/b", 1).mean)


def test_the_interval_of_a_mean_as_a_statistic_is_about_student_s():
    values = np.random.default_rng(1).normal(size=(1, 30))
    found = statistic_interval(values, lambda means: means[0])
    half = 2.045 * values.std(ddof=1) / math.sqrt(30)
    assert float(found.mean) == pytest.approx(values.mean())
    assert float(found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_lemma_4_1_is_convex_in_its_reduced_form_and_not_jointly():
    found = least_curvatures(scalar_descent())
    assert found["joint_at_zero"] == pytest.approx(-0.9)
    # Φ'' at W* = √0.9: m + λ(3W² − λ)/(W² + λ)³ = .1 + .1 · 2.6
    assert found["reduced_at_minimum"] == pytest.approx(0.36)
    assert found["joint_at_minimum"] > 0
    curves = scalar_curves()
    assert float(curves.reduced.min()) == pytest.approx(0.1, abs=1e-3)
    # |1 − 2Wθ| at θ = 0 is 1: .1 and W² + .1 on the diagonal give less than 0 while W² + .1 < 10
    assert float(curves.at_zero[0]) < -0.8
    # Where the head answers, f_θθ > 0 and its Schur complement is Φ'' > 0.
    assert float(curves.answered.min()) > 0


def test_the_ridge_and_the_kink_are_as_the_mathematics_says():
    found = without_ridge(20)
    assert found["ridge 0"]["largest"] < 1e-20
    assert found["ridge 0.1"]["least"] > 1e-3
    at_kink = kink(0.1)
    assert at_kink["left_slope"] == 0
    assert at_kink["right_slope"] == pytest.approx(-1 / 2.4, abs=1e-6)
    assert at_kink["second_differences"]["relu"]["0.0001"] < -4000
    assert abs(at_kink["second_differences"]["tanh"]["0.0001"]) < 10


@pytest.mark.usefixtures("undrawn")
def test_every_measurement_stands_in_the_table(run_program, tmp_path, seldom):
    line = "--instance regression --runs 2 --steps 100 --out run"
    assert run_program(program.convergence, line).status == 0
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(seldom(100))
    assert {name for name in rows[0] if "/" in name} == {
        f"regression/{schedule}/{quantity}"
        for schedule in ("theorem-3.6", "theorem-3.7", "uniform")
        for quantity in ("moreau", "body", "head")
    }
