"""What a study says over its problems: ratios β/α, settings chosen elsewhere, and agreement."""

import math

import numpy as np
import pytest

from experiments.runs.results.intervals import Interval
from experiments.sweep.results.agreement import agreement, agreement_markdown, rank_correlation
from experiments.sweep.results.measures_figure import draw_ratios
from experiments.sweep.results.overall import chosen_on_the_others, overall
from experiments.sweep.results.rows import reports
from experiments.sweep.results.step_ratios import step_ratios, step_ratios_markdown
from tests.experiments.sweep.results.test_results import NAN, row


def test_a_ratio_is_compared_with_the_least_one_of_its_rule_in_every_panel():
    errors = {("p", 2.0): 4.0, ("p", 8.0): 2.0, ("q", 2.0): 1.0, ("q", 8.0): 2.0}
    swept = [
        row("td", 0.1, [error, error], ratio, problem=problem)
        for (problem, ratio), error in errors.items()
    ]
    answers = reports(swept, swept, "auc_rmsve", "td")
    found = step_ratios(answers, [("p", "markov"), ("q", "markov")], "auc_rmsve")["td"]
    assert float(found[2.0].mean) == 1
    # The geometric mean of ½ and 2, with Student's t for two logarithms that differ by log 4.
    assert float(found[8.0].mean) == pytest.approx(1)
    half = 12.7062 * math.log(4) / 2
    assert float(found[8.0].high) == pytest.approx(math.exp(half), rel=1e-3)
    only_p = step_ratios(answers, [("p", "markov")], "auc_rmsve")
    assert float(only_p["td"][8.0].mean) == pytest.approx(0.5)
    assert "| td | 1.00 | 0.50 |" in step_ratios_markdown(only_p, "auc_rmsve")
    assert step_ratios(answers[:1], [("p", "markov")], "auc_rmsve") == {}


def test_an_auxiliary_ratio_has_its_own_best_ratio_of_steps():
    # {(β/α, η/β): error}: the best at η/β = 1 has β/α = 8, at η/β = 16 it has 2.
    errors = {(2.0, 1.0): 4.0, (8.0, 1.0): 3.0, (2.0, 16.0): 1.0, (8.0, 16.0): 2.0}
    swept = []
    for (ratio, auxiliary_ratio), error in errors.items():
        each = row("tdc", 0.1, [error, error], ratio)
        steps = each.configuration._replace(
            auxiliary_ratio=auxiliary_ratio, auxiliary_step=0.1 * ratio * auxiliary_ratio
        )
        swept.append(each._replace(configuration=steps))
    answers = reports(swept, swept, "auc_rmsve", "tdc", "auxiliary_ratio")
    assert [report.fresh for report in answers] == [swept[1], swept[2]]
    assert [report.of_rule for report in answers] == [False, True]
    panels = [("p", "markov")]
    found = step_ratios(answers, panels, "auc_rmsve", "auxiliary_ratio")
    assert {ratio: float(of.mean) for ratio, of in found["tdc"].items()} == {
        1.0: 1.0,
        16.0: pytest.approx(1 / 3),
    }
    assert "at each η/β" in step_ratios_markdown(found, "auc_rmsve", "auxiliary_ratio")
    # By β/α the same study has 3 at 8 and 1 at 2.
    by_steps = step_ratios(reports(swept, swept, "auc_rmsve", "tdc"), panels, "auc_rmsve")
    assert float(by_steps["tdc"][8.0].mean) == pytest.approx(2)


def test_a_setting_for_a_problem_is_chosen_on_the_others():
    errors = {"p": (1.0, 3.0), "q": (2.0, 2.0), "r": (8.0, 1.0)}
    swept = [
        row("td", step, [error, error], problem=problem)
        for problem, both in errors.items()
        for step, error in zip((0.1, 0.2), both)
    ]
    # Factors are (1, 3), (1, 1), (8, 1): without p the second step is chosen, else also
    # for q, and for r the first.
    (found,) = chosen_on_the_others(overall(swept, "auc_rmsve")).values()
    assert float(found.mean) == pytest.approx((3 * 1 * 8) ** (1 / 3))
    alone = overall([each for each in swept if each.cell.problem == "p"], "auc_rmsve")
    assert math.isnan(float(chosen_on_the_others(alone)["td"].mean))


def test_what_a_choice_by_another_error_costs():
    def with_both(rmspbe, rmsve, problem="p"):
        values = {"final/rmspbe": np.array(rmspbe), "final/rmsve": np.array(rmsve)}
        return row("td", rmspbe[0], rmsve, problem=problem)._replace(values=values)

    swept = [
        with_both([1.0, 1.0], [6.0, 6.0]),
        with_both([2.0, 2.0], [3.0, 3.0]),
        with_both([3.0, 3.0], [4.0, 4.0]),
        # A configuration of which a run diverged is not chosen.
        with_both([0.1, NAN], [0.1, NAN])._replace(diverged=np.array([False, True])),
    ]
    correlations, costs = agreement(swept, "final_rmspbe")
    assert correlations == {("p", "markov"): pytest.approx(-0.5)}
    assert costs == [2.0]
    assert rank_correlation([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    assert math.isnan(rank_correlation([1, 2], [1, 2]))
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    other = [with_both([n, n], [n, n], "q") for n in (1.0, 2.0, 3.0)]
    shown = agreement_markdown([*swept, *other])
    # tanh of the mean of artanh(−0.5) and artanh(0.999), and √(2 · 1).
    middle = math.tanh((math.atanh(-0.5) + math.atanh(0.999)) / 2)
    assert f"| {middle:.2f} [-1.00, 1.00] | -0.50 | 1.41 [" in shown
    assert agreement_markdown([]) == ""


def test_a_ratio_of_rounding_is_not_drawn_as_a_diverged_one():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    none = Interval(*(np.array(NAN) for _ in range(3)))
    lines = {"lost": (np.array([1.0, math.inf]), none), "exact": (np.array([2.0, 0.0]), none)}
    draw_ratios(axes, lines, {"lost": "red", "exact": "blue"})
    marks = {(line.get_marker(), line.get_color()): line for line in axes.lines}
    assert len(marks["x", "red"].get_xdata()) == 1
    assert ("<", "blue") in marks
    assert not {("x", "blue"), ("<", "red")} & marks.keys()
