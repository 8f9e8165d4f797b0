"""Selections and comparisons: worked by hand on a few runs."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.sweep.results.figures import (
    curves_figure,
    map_figure,
    sensitivity_figure,
)
from experiments.sweep.results.overall import overall, overall_csv, overall_markdown
from experiments.sweep.results.relative import (
    ratio_of_pairs,
    relative_figure,
    relative_markdown,
)
from experiments.sweep.results.rows import (
    Row,
    best,
    compared,
    described,
    reports,
    selected,
    summarised,
)
from experiments.sweep.results.tables import as_csv, latex, markdown, step_text
from experiments.sweep.running.configurations import Configuration

NAN = math.nan


def row(rule, step, values, ratio=2.0, diverged=None, problem="p"):
    values = np.array(values, dtype=float)
    lost = np.isnan(values) if diverged is None else np.array(diverged)
    cell = SimpleNamespace(
        problem=problem, sampling="markov", rule=rule, learned=rule, control=False
    )
    configuration = Configuration(ratio, NAN, step, ratio * step, ratio * step)
    both = {"auc/rmsve": values, "final/rmsve": 10 * values}
    return Row(cell, configuration, both, lost, {}, np.zeros(0))


def test_a_diverged_run_counts_as_infinitely_bad():
    tame, wild = row("td", 0.1, [3.0, 3.0]), row("td", 0.2, [1.0, NAN])
    assert best([wild, tame], "auc_rmsve") is tame
    assert best([wild], "auc_rmsve") is None


def test_the_smaller_of_two_equal_steps_is_selected():
    small, large = row("td", 0.1, [2.0, 4.0]), row("td", 0.2, [3.0, 3.0])
    assert best([large, small], "auc_rmsve") is small


def test_every_ratio_of_every_rule_has_its_best_step():
    rows = [
        row("td", 0.1, [2.0, 2.0]),
        row("td", 0.2, [1.0, 1.0]),
        row("td", 0.1, [5.0, 5.0], ratio=8.0),
        row("tdc", 0.1, [NAN, 1.0]),
    ]
    assert selected(rows, "auc_rmsve") == [rows[1], rows[2]]


def test_a_report_is_of_fresh_runs_and_in_pairs_with_the_baseline():
    swept = [row("td", 0.1, [2.0, 2.0]), row("tdc", 0.2, [1.0, 1.0])]
    fresh = [row("td", 0.1, [4.0, 6.0, 8.0]), row("tdc", 0.2, [5.0, 7.0, NAN])]
    first, second = reports(swept, fresh, "auc_rmsve", "td")
    assert (first.of_rule, second.of_rule) == (True, True)
    columns = second.columns("auc_rmsve")
    assert columns["auc_rmsve"] == 6.0
    assert columns["selected_by_auc_rmsve"] == 1.0
    # Pairs of surviving runs alone: 5 − 4 and 7 − 6.
    assert columns["auc_rmsve_difference"] == 1.0
    assert columns["final_rmsve_difference"] == 10.0
    assert (columns["runs"], columns["diverged"]) == (3, 1)


def test_without_a_baseline_there_is_no_difference():
    assert compared(row("td", 0.1, [1.0, 2.0]), None) == {}


def test_a_summary_is_over_the_survivors():
    found = summarised(row("td", 0.1, [1.0, NAN, 4.0, 7.0]))
    assert found["auc_rmsve"] == 4.0
    assert found["auc_rmsve_median"] == 4.0
    assert found["final_rmsve_low"] < 40.0 < found["final_rmsve_high"]


def test_a_table_says_what_was_selected_against_what():
    uniform = {"ratio": 1.0}
    swept = [row("td", 0.25, [2.0, 2.0]), row("a_b", 0.5, [1.0, 1.0])]
    swept.append(row("td", 0.125, [3.0, 3.0], **uniform))
    fresh = [row("td", 0.25, [4.0, 6.0]), row("a_b", 0.5, [5.0, 7.0])]
    fresh.append(row("td", 0.125, [7.0, 8.0], **uniform))
    answers = reports(swept, fresh, "auc_rmsve", "td")
    shown = markdown(answers, "auc_rmsve", "td")
    # Run by run, 7 − 4 and 8 − 6 at β/α = 1, and nothing from itself.
    differences = shown.partition("by β/α, minus td's best of all\n\n")[2]
    assert re.search(r"^\| td \| 2\.5 \[.*\] \| – \|$", differences, re.MULTILINE)
    assert "### p, markov" in shown
    assert "| minus td's |" in shown
    assert "| a_b | 2^-1 | 2^1 | – | 6 [" in shown
    tabular = latex(answers, "auc_rmsve", "td")
    assert r"a\_b & $2^{-1}$" in tabular
    assert tabular.count(r"\midrule") == 1


def test_an_error_that_is_rounding_is_zero_in_the_tables_of_a_study():
    exact = {"first/lstd_rmsve": np.full(2, 7e-16), "final/lstd_rmsve": np.full(2, 7e-16)}
    td = row("td", 0.25, [2.0, 2.0])
    td = td._replace(values={**td.values, **exact})
    shown = markdown(reports([td], [td], "auc_rmsve", "td"), "auc_rmsve", "td")
    assert "| – | 0 | 0 | 0 of 2 |" in shown


def test_csv_leaves_cells_empty_that_do_not_exist():
    assert as_csv([{"a": 1.5, "b": NAN}, {"a": 2, "c": "x"}]) == "a,b,c\n1.5,,\n2,,x\n"


@pytest.mark.parametrize(
    ("value", "text"), [(0.125, "2^-3"), (1.0, "1"), (0.3, "0.3"), (math.inf, "∞"), (NAN, "–")]
)
def test_steps_are_written_as_powers_where_they_are(value, text):
    assert step_text(value) == text


def test_a_ratio_of_means_has_an_interval_over_pairs():
    own, base = np.array([2.0, 4.0, 6.0, NAN]), np.array([1.0, 2.0, 3.0, 4.0])
    assert tuple(map(float, ratio_of_pairs(own, base))) == (2.0, 2.0, 2.0)
    # The linearised ratios ½ and 3/2 have the mean 1 and the standard error ½: exp(±12.706/2).
    found = ratio_of_pairs(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    half = math.exp(12.7062 / 2)
    assert tuple(map(float, found)) == pytest.approx((1.0, 1 / half, half), rel=1e-4)


@pytest.mark.parametrize("runs", [5, 20])
def test_the_interval_of_a_ratio_of_skewed_pairs_covers_it(runs):
    random = np.random.default_rng(1)
    # Errors with a common part: the ratio of their means is 2 exactly.
    common = random.lognormal(0, 0.5, (1_000, runs))
    own, base = (scale * common * random.lognormal(0, 0.3, common.shape) for scale in (2, 1))
    found = [ratio_of_pairs(*pair) for pair in zip(own, base)]
    share = np.mean([float(each.low) <= 2 <= float(each.high) for each in found])
    assert 0.91 <= share <= 0.98


def test_figures_of_a_study_are_files(tmp_path):
    swept = [row("td", 0.25, [2.0, 2.0]), row("td", 0.5, [NAN, NAN]), row("tdc", 0.5, [1.0, NAN])]
    swept += [row("tdc", 0.25, [1.5, 1.0], ratio=8.0)]
    fresh = [row("td", 0.25, [4.0, 6.0]), row("tdc", 0.25, [5.0, 7.0], ratio=8.0)]
    fresh = [
        each._replace(curves={"rmsve": np.array([[9.0, 8.0], [4.0, 6.0]])}, steps=np.array([1, 5]))
        for each in fresh
    ]
    sensitivity_figure(tmp_path / "s.png", swept, "auc_rmsve")
    map_figure(tmp_path / "m.png", swept, "auc_rmsve")
    curves_figure(tmp_path / "c.png", fresh, "rmsve")
    relative_figure(tmp_path / "r.png", reports(swept, fresh, "auc_rmsve", "td"), "auc_rmsve")
    assert all((tmp_path / f"{name}.png").stat().st_size > 5_000 for name in "smcr")


def test_a_row_says_which_configuration_it_is():
    found = described(row("td", 0.1, [1.0, NAN]))
    assert found["body_step"] == 0.1
    assert found["head_step"] == 0.2
    assert found["diverged"] == 1


def panels_of_one_setting():
    """Return td, tdc and a diverging rule on problems p (two panels) and q, where tdc is best."""

    def sampled(of, sampling):
        return of._replace(cell=SimpleNamespace(**{**vars(of.cell), "sampling": sampling}))

    scores = {"td": (2.0, 8.0, 9.0), "tdc": (1.0, 1.0, 3.0), "wild": (1.0, NAN, 3.0)}
    rows = []
    for rule, (first, second, other) in scores.items():
        rows.append(row(rule, 0.5, [first]))
        rows.append(sampled(row(rule, 0.5, [second]), "iid"))
        rows.append(row(rule, 0.5, [other], problem="q"))
    # Where only one problem has a setting, it is none for all.
    return [*rows, row("td", 0.25, [0.5], problem="q")]


def test_one_setting_for_all_problems_by_hand():
    rows = panels_of_one_setting()
    tdc, td, wild = overall(rows, "auc_rmsve")
    assert [each.rule for each in (tdc, td, wild)] == ["tdc", "td", "wild"]
    # tdc: 1 and 1 on p, 3 / 0.5 = 6 on q; td: √(2·8) = 4 on p, 9 / 0.5 = 18 on q.
    assert tdc.factor == pytest.approx(6**0.5)
    assert td.factor == pytest.approx((4 * 18) ** 0.5)
    assert wild.factor == math.inf
    assert td.worst == ("q", "markov")
    assert wild.worst == ("p", "iid")
    lines = overall_csv([tdc, td, wild]).splitlines()
    assert lines[0].endswith("factor,p markov,p iid,q markov")
    assert lines[2].endswith(",2.0,8.0,18.0")
    table = overall_markdown([tdc, td, wild], "auc_rmsve")
    assert "| td | 2^-1 | 1 | – | 2^1 | 8.49 | 18 | q, markov |" in table
    assert "| wild | 2^-1 | 1 | – | 2^1 | diverged | – | p, iid |" in table


def test_panels_where_all_diverged_compare_nothing():
    rows = [row("td", 0.5, [1.0]), row("td", 0.5, [NAN], problem="q")]
    (only,) = overall(rows, "auc_rmsve")
    assert only.factors == {("p", "markov"): 1.0}
    assert overall(rows[1:], "auc_rmsve") == []


def test_errors_relative_to_the_baseline_stand_in_one_table():
    swept = [row("td", 0.1, [2.0, 2.0]), row("tdc", 0.2, [1.0, 1.0])]
    fresh = [row("td", 0.1, [4.0, 6.0, 8.0]), row("tdc", 0.2, [5.0, 7.0, NAN])]
    swept += [row("td", 0.1, [2.0], problem="q"), row("wild", 0.2, [3.0], problem="q")]
    fresh += [row("td", 0.1, [4.0], problem="q"), row("wild", 0.2, [NAN], problem="q")]
    table = relative_markdown(reports(swept, fresh, "auc_rmsve", "td"), "auc_rmsve", "td")
    assert "| problem | td | tdc | wild |" in table
    # 12 over 10; the linearised ratios 1.24 and 1.16: 1.2·exp(±12.706·0.04/1.2). The median of 5,
    # 7 and ∞ over that of 4, 6 and 8.
    assert "| p, markov | 1 | 1.20 [0.79, 1.83] *1 of 3, 1.17 of all | – |" in table
    assert "| q, markov | 1 | – | – *1 of 1, ∞ of all |" in table
    # Of one pair there is no interval.
    swept = [row("td", 0.1, [2.0]), row("tdc", 0.2, [1.0])]
    fresh = [row("td", 0.1, [4.0]), row("tdc", 0.2, [5.0])]
    table = relative_markdown(reports(swept, fresh, "auc_rmsve", "td"), "auc_rmsve", "td")
    assert "| p, markov | 1 | 1.25 |" in table
