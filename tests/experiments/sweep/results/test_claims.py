"""How far a study's answers carry: reselection, equal tries, and measures over problems by hand."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.sweep.results.measures import (
    hyperparameter_sensitivity,
    improvement_interval,
    improvement_over_panels,
    median_of_all,
    normalised_scores,
    ratio_over_problems,
    share_near_best,
    shares_within,
    told_apart,
)
from experiments.sweep.results.over_problems import (
    compared_panels,
    measures_markdown,
    rules_over_problems,
)
from experiments.sweep.results.overall import overall
from experiments.sweep.results.reselection import (
    median_best,
    reselections,
    selection_markdown,
    tries,
)
from experiments.sweep.results.rows import reports
from tests.experiments.sweep.results.test_results import NAN, row


def shown_measures(swept, answers):
    measured = rules_over_problems(swept, answers, "auc_rmsve", "td")
    lost = len({each.panel for each in swept}) - len(compared_panels(swept, "auc_rmsve"))
    return measures_markdown(measured, "auc_rmsve", "td", lost)


def test_a_ratio_that_one_run_decides_is_chosen_again_as_often_as_that_run_is_drawn():
    """Run 0 is 6 better at ratio 2, the other three are 2 better at ratio 8: equal means."""
    near, far = row("td", 0.1, [1, 5, 5, 5]), row("td", 0.1, [7, 3, 3, 3], ratio=8.0)
    (found,) = reselections([near, far], "auc_rmsve")
    assert (found.rule, found.ratio) == ("td", 2.0)
    # Of equal means the first is taken, so that ratio 8 needs a resample without run 0.
    none_drawn = 0.75**4
    assert found.shares[8.0] == pytest.approx(none_drawn, abs=0.04)
    assert found.shares[2.0] == pytest.approx(1 - none_drawn, abs=0.04)
    assert found.range == (2.0, 8.0)


def test_a_clear_best_is_always_chosen_and_a_configuration_that_may_diverge_seldom():
    clear = [row("td", 0.1, [1, 2, 3]), row("td", 0.1, [9, 9, 9], ratio=8.0)]
    assert reselections(clear, "auc_rmsve")[0].range == (2.0, 2.0)
    risky = row("td", 0.2, [0.1, 0.1, NAN], ratio=8.0)
    (found,) = reselections([clear[0], risky], "auc_rmsve")
    # Only where the diverged run is not drawn: (2/3)³.
    assert found.shares[8.0] == pytest.approx((2 / 3) ** 3, abs=0.05)


def test_the_median_best_of_a_few_is_that_of_all_subsets():
    scores = [5.0, 1.0, 3.0, 2.0, 8.0, 13.0, math.inf]
    for count in (1, 2, 3, 7):
        least = sorted(min(each) for each in itertools.combinations(scores, count))
        assert median_best(scores, count) == least[(len(least) - 1) // 2]


def test_the_rule_with_more_configurations_is_told_what_they_give():
    many = [row("tdc", step, [step, step]) for step in (1.0, 2.0, 3.0, 4.0)]
    few = [row("td", 0.1, [5.0, 5.0]), row("td", 0.2, [6.0, 6.0])]
    found = tries([*many, *few], "auc_rmsve")
    of_tdc, of_td = (found[("p", "markov"), rule] for rule in ("tdc", "td"))
    # The best of two of 1, 2, 3, 4 is 1 in half of the pairs.
    assert (of_tdc.configurations, of_tdc.fewest, of_tdc.factor) == (4, 2, 1.0)
    assert (of_td.configurations, of_td.factor) == (2, 1.0)


def test_problems_are_a_sample_of_their_kind():
    ratio, low, high = ratio_over_problems(np.array([0.5, 2.0, 1.0, NAN, math.inf]))
    assert float(ratio) == pytest.approx(1.0)
    # Student's t for three logarithms of deviation log 2.
    assert float(high) == pytest.approx(math.exp(4.3027 * math.log(2) / 3**0.5), rel=1e-4)
    assert float(low * high) == pytest.approx(1.0)


def test_a_profile_and_an_improvement_count_every_problem_alike():
    own = [np.array([1.0, 3.0]), np.array([1.0, 1.0, 1.0, math.inf])]
    base = [np.array([2.0, 2.0]), np.array([1.0, 1.0, 1.0, math.inf])]
    assert shares_within(own, np.array([0.5, 1.0, 3.0])) == pytest.approx([0, 0.625, 0.875])
    assert improvement_over_panels(own, base) == pytest.approx(0.5)
    assert improvement_over_panels([base[0] - 1], [base[0]]) == 1.0
    share, low, high = improvement_interval(own, base)
    assert 0 < low < share < high < 1


def test_near_the_best_and_the_median_of_all():
    assert share_near_best([2.0, 3.0, 3.1, math.inf]) == 0.5
    assert share_near_best([math.inf]) == 0.0
    assert median_of_all(np.array([1.0, NAN, 4.0])) == 4.0
    assert median_of_all(np.array([1.0, NAN, NAN])) == math.inf


def test_sensitivity_is_what_tuning_for_each_problem_gains():
    scores = {"p": {"a": 1.0, "b": 0.4}, "q": {"a": 0.2, "b": 0.8}}
    # (1 + 0.8)/2 − max(0.6, 0.6).
    assert hyperparameter_sensitivity(scores) == pytest.approx(0.3)
    assert hyperparameter_sensitivity({"p": {"a": 1.0, "b": 0.4}}) == 0.0


def test_scores_are_normalised_by_percentiles_and_cut():
    errors = {str(each): float(each) for each in range(101)}
    found = normalised_scores({"p": {**errors, "lost": math.inf}})["p"]
    assert (found["0"], found["5"], found["95"], found["lost"]) == (1.0, 1.0, 0.0, 0.0)
    assert found["50"] == pytest.approx(0.5)


def test_a_panel_whose_best_error_is_rounding_decides_no_ratio():
    assert told_apart([2e-3, 5.0, math.inf])
    assert not told_apart([3e-14, 5.0])
    assert not told_apart([0.0, 5.0])
    assert not told_apart([math.inf])
    swept = [
        row(rule, 0.1, [error, error], problem=problem)
        for problem, base in (("p", 4.0), ("exact", 1e-14))
        for rule, error in (("td", base), ("tdc", 2.0))
    ]
    shown = shown_measures(swept, reports(swept, swept, "auc_rmsve", "td"))
    assert "| tdc | 0.50 | 1.00 [" in shown
    assert "over 1 panels (1 left out: nothing survives, or the best error is rounding)" in shown
    # A control with exact features leaves the panel to the rules.
    exact = row("lstd-random", 0.1, [1e-14, 1e-14])
    exact = exact._replace(cell=SimpleNamespace(**{**vars(exact.cell), "control": True}))
    both = [*swept, exact]
    assert compared_panels(both, "auc_rmsve") == [("p", "markov")]
    shown = shown_measures(both, reports(both, both, "auc_rmsve", "td"))
    assert "| lstd-random | – (1 left out) | 1.00 [" in shown
    assert {each.factor for each in overall(swept, "auc_rmsve")} == {1.0, 2.0}


def test_tables_have_a_line_for_every_rule_and_name_what_few_panels_do_not_carry():
    swept = [
        row(rule, 0.1, [error, error + 1], ratio, problem=problem)
        for problem in ("p", "q")
        for rule, error in (("td", 2.0), ("tdc", 1.0))
        for ratio in (2.0, 8.0)
    ]
    fresh = [
        each if each.cell.rule == "td" else each._replace(values={"auc/rmsve": np.array([1, NAN])})
        for each in swept
    ]
    answers = reports(swept, fresh, "auc_rmsve", "td")
    shown = shown_measures(swept, answers)
    assert "| td | 1.00 [1.00, 1.00] | 0.50 [" in shown
    # The median of 1 and infinity is infinite; one of the two runs is at most half of 2.5.
    cells = "– (2 left out) | 0.50 [0.00, 1.00] | 50% | 50% | 50% | 50% | 100% | 0.00"
    assert f"| tdc | {cells} |" in shown
    assert "over 2 panels; 20 are needed for a claim" in shown
    assert "| p, markov | tdc | 2 | 100% | [2, 2] | 2 | 1.00 |" in selection_markdown(
        swept, "auc_rmsve"
    )
