"""The program about the first two steps: its command line, its folder, its numbers."""

import csv
import json

import pytest
import torch

from experiments.two_step import __main__ as program
from experiments.two_step import optima, study
from experiments.two_step.optima import (
    ONE_STEPS,
    _best_equal_rate,
    _gaussian_step,
    one_step_optima,
    optimum,
)
from experiments.two_step.study import line_rows, loss_map, published_rows, window, window_ends
from experiments.two_step.tables import optima_lines
from neural_tdc.randomness import generator

LINE = "--width 6 --draws 20 --sums 0.1 0.4 --optima 3 --optima-width 4 --out"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--width 1", "--width 1 is not allowed: give a whole number of at least 2"),
        ("--width 5000", "--width 5000 is not allowed: give a whole number of at most 512"),
        ("--draws 1", "--draws 1 is not allowed"),
        ("--sums 0.1 -1", "--sums -1 is not allowed: give a finite number above 0"),
        ("--sums 0.1 0.1", "--sums names 0.1 2 times"),
        ("--optima 1", "--optima 1 is not allowed"),
        ("--optima-width 1", "--optima-width 1 is not allowed"),
        ("--seed -1", "--seed -1 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(refused, line, said):
    refused(program.two_step, line, said)


def test_a_run_is_a_folder_whose_numbers_come_again_from_the_same_command(
    run_program, tmp_path, monkeypatch
):
    shown = run_program(program.two_step, f"{LINE} one")
    assert shown.status == 0
    assert "equal rates win the second step" in shown.out
    one = tmp_path / "one"
    assert {path.name for path in one.iterdir()} == {
        "config.json", "metrics.csv", "summary.json", "figure.png", "checkpoint.pt", "parts",
    }  # fmt: skip
    assert (one / "figure.png").stat().st_size > 100_000
    with (one / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    # layers × steps × sums × shares
    assert len(rows) == 2 * 2 * 2 * 5
    assert {row["published"] == "" for row in rows if row["steps"] == "2"} == {True}
    assert json.loads((one / "summary.json").read_text())["problem"] == "linear networks"
    again = run_program(program.two_step, f"{LINE} one")
    assert again.status == 2
    assert "holds a run already" in again.error
    monkeypatch.setattr("experiments.two_step.run.draw_two_step", lambda *_, **__: None)
    assert run_program(program.two_step, f"{LINE} two").status == 0
    assert (tmp_path / "two" / "metrics.csv").read_bytes() == (one / "metrics.csv").read_bytes()


def test_a_resumed_run_computes_only_the_parts_that_are_missing(run_program, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.two_step.run.draw_two_step", lambda *_, **__: None)
    computed, stops = [], [6]

    def counted(module, name):
        function = getattr(module, name)

        def call(*arguments):
            if len(computed) in stops:
                raise KeyboardInterrupt
            computed.append((name, *arguments))
            return function(*arguments)

        monkeypatch.setattr(module, name, call)

    for name in ("line_rows", "window_ends", "least_loss", "published_rows"):
        counted(study, name)
    counted(optima, "one_step_optima")
    assert run_program(program.two_step, f"{LINE} run").status == 130
    assert len(list((tmp_path / "run" / "parts").iterdir())) == 6
    stops.clear()
    resumed = run_program(program.two_step, f"{LINE} run --resume")
    assert resumed.status == 0
    assert resumed.error.splitlines()[-1].startswith("two_step: 29 of 29 steps")
    # lines: layers × sums; windows: layers × widths; maps: layers × steps; published; optima
    assert len(computed) == 2 * 2 + 2 * 8 + 2 * 2 + 2 + 3
    assert len(set(computed)) == len(computed)
    computed.clear()
    summary = (tmp_path / "run" / "summary.json").read_text()
    assert run_program(program.two_step, f"{LINE} run --resume").status == 0
    assert computed == []
    # Its seconds too are those of the run.
    assert (tmp_path / "run" / "summary.json").read_text() == summary


def test_the_simulated_signal_part_agrees_with_the_closed_form_and_differences_are_paired():
    rows = line_rows(3, 0.4, 6, 2000, 0)
    assert len(rows) == 10
    for row in rows:
        half = (row["signal_high"] - row["signal_low"]) / 2
        assert abs(row["signal"] - row["closed_form"]) < 2 * half
        if row["share"] == 0.5:
            assert row["exact_minus_equal"] == 0
        equal = next(r for r in rows if r["share"] == 0.5 and r["steps"] == row["steps"])
        assert row["exact_minus_equal"] == pytest.approx(row["exact"] - equal["exact"])


def test_the_published_form_is_told_from_the_full_one_by_simulation():
    for layers in (2, 3):
        rows = published_rows(layers, 0)
        for row in rows:
            assert abs(row["signal"] - row["full"]) < row["signal_high"] - row["signal_low"]
        assert rows[-1]["published"] < rows[-1]["signal_low"]


def test_the_map_is_symmetric_and_its_best_rates_stand_where_its_loss_is_least():
    found = loss_map(3, 2, 16, points=61)
    torch.testing.assert_close(found.loss, found.loss.mT)
    first, second, loss = found.best()
    assert first <= second
    assert loss == float(found.loss.min())
    rows = {float(rate): index for index, rate in enumerate(found.rates)}
    assert float(found.loss[rows[first], rows[second]]) == loss


def test_the_window_of_wide_networks_is_that_of_a_search_over_shares():
    ends = window_ends(3, 2, 64)
    assert ends["low"] == pytest.approx(0.01, abs=0.005)
    assert ends["high"] == pytest.approx(0.235, abs=0.005)
    narrow = window_ends(3, 2, 4)
    assert narrow["low"] is None
    assert narrow["high"] is None
    found = window(3, widths=(4, 64))
    assert not bool((found.share[0] == 0.5).any())
    inside = found.totals[found.share[1] == 0.5]
    assert float(inside.max()) == pytest.approx(0.235, abs=0.006)


def test_no_pair_of_rates_on_a_grid_beats_the_exact_optimum_and_no_equal_rate_the_equal_one():
    step = _gaussian_step(generator(7, "step"), 4)
    found = optimum(step)
    begun = float(step.residual(0.0, 0.0).square().sum())
    equal = _best_equal_rate(step)
    rates = torch.linspace(-0.5, 6, 131, dtype=torch.float64) * equal
    losses = torch.tensor(
        [[float(step.residual(a, b).square().sum()) for a in rates] for b in rates]
    )
    assert found.free <= float(losses.min()) / begun
    assert found.equal <= float(losses.diagonal().min()) / begun + 1e-12
    assert found.free <= found.equal <= 1
    assert found.free <= found.alone <= 1


def test_degenerate_draws_are_counted_and_left_out(monkeypatch):
    name = "three layers, orthogonal"
    whole = one_step_optima(name, 3, 4, 0)
    assert whole["left_out"] == 0
    # At width 2 the draw 11 has a residual that does not depend on a rate.
    assert one_step_optima(name, 2, 11, 0)["left_out"] == 0
    entry = one_step_optima(name, 2, 12, 0)
    assert entry["left_out"] == 1
    assert entry["free"] == one_step_optima(name, 2, 11, 0)["free"]
    assert "(without 1 degenerate draws" in optima_lines({name: entry})[0]

    def degenerate(step):
        raise optima.DegenerateStep

    monkeypatch.setattr(optima, "optimum", degenerate)
    none = one_step_optima(name, 3, 4, 0)
    assert none["left_out"] == 4
    assert optima_lines({name: none})[0].startswith(f"  {name}: alone –, equal –")


def test_the_optima_are_means_over_draws_with_paired_gains():
    for name in ONE_STEPS:
        entry = one_step_optima(name, 4, 5, 0)
        gain = entry["equal"]["mean"] - entry["free"]["mean"]
        assert entry["equal_minus_free"]["mean"] == pytest.approx(gain)
        assert gain >= 0
