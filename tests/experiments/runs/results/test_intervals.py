"""Intervals over runs: Student's t of few, the bootstrap of many."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.runs.results.coverage import INTERVALS, RUNS, coverage, populations
from experiments.runs.results.intervals import (
    Interval,
    interquartile_interval,
    interquartile_mean,
    interval_name,
    mean_interval,
    paired_difference,
    statistic_interval,
    widened,
)

ROOT = Path(__file__).parents[4]


def test_the_mean_is_over_runs_and_every_interval_holds_it():
    values = np.random.default_rng(1).gamma(0.4, size=(6, 9))
    mean, low, high = mean_interval(values)
    np.testing.assert_allclose(mean, values.mean(axis=1))
    assert ((low < mean) & (mean < high)).all()


def test_for_many_runs_the_interval_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(2).exponential(size=150)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=3
    ).confidence_interval
    _, low, high = mean_interval(values)
    width = expected.high - expected.low
    assert abs(low - expected.low) < 0.06 * width
    assert abs(high - expected.high) < 0.06 * width


@pytest.mark.parametrize("runs", [2, 3, 9])
def test_of_few_runs_the_interval_is_students(runs):
    values = np.random.default_rng(3).standard_normal((4, runs)) - 1
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, runs - 1, values.mean(1), stats.sem(values, axis=1))
    np.testing.assert_allclose(mean, values.mean(1))
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_on_the_logarithm_it_is_students_for_the_logarithm_of_the_mean():
    mean, low, high = mean_interval(np.array([1.0, 2.0, 6.0]), logarithm=True)
    # Mean 3, standard error √(7/3): 3·exp(±4.302653·√(7/3)/3).
    assert float(mean) == 3
    np.testing.assert_allclose([low, high], [0.33550, 26.8256], rtol=1e-4)


def test_on_the_logarithm_ten_runs_are_treated_as_nine_are():
    values = np.random.default_rng(3).lognormal(size=12)
    mean, low, high = mean_interval(values, logarithm=True)
    factor = np.exp(stats.t.ppf(0.975, 11) * stats.sem(values) / values.mean())
    np.testing.assert_allclose([low, high], [mean / factor, mean * factor], rtol=1e-9)


def test_the_logarithm_has_no_effect_where_a_value_is_negative_or_all_are_zero():
    values = np.array([[1.0, 2.0, -0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0], [1.0, 2.0, np.nan]])
    plain, logarithm = mean_interval(values), mean_interval(values, logarithm=True)
    np.testing.assert_array_equal(logarithm.low[:2], plain.low[:2])
    assert (logarithm.low[2:] > 0).all()
    chosen = mean_interval(values, logarithm=np.array([False, True, True, False]))
    np.testing.assert_array_equal(chosen.low, [*plain.low[:2], logarithm.low[2], plain.low[3]])


COVERAGES = {
    ("normal, 10 ± 1", "mean"): 0.94,
    ("normal, 10 ± 1", "mean, on the logarithm"): 0.94,
    ("normal, 10 ± 1", "interquartile mean"): 0.92,
    ("skewed, lognormal σ = 0.5", "mean, on the logarithm"): 0.91,
    ("very skewed, lognormal σ = 1", "mean, on the logarithm"): 0.88,
    ("capped, min(450 ± 150, 500)", "mean"): 0.80,
}


@pytest.mark.parametrize("runs", [2, 3, 5, 9, 10, 20])
@pytest.mark.parametrize(("name", "kind"), COVERAGES)
def test_an_interval_covers_what_it_is_for_as_often_as_the_page_says(name, kind, runs):
    # The bootstrap of the interquartile mean takes time.
    simulations = 300 if kind == "interquartile mean" and runs >= 10 else 2_000
    share = coverage(populations()[name], kind, runs, simulations)
    assert COVERAGES[name, kind] <= share <= 0.985


@pytest.mark.parametrize("runs", [2, 3, 5, 9, 10, 20])
def test_the_logarithm_covers_the_mean_of_skewed_errors_more_often(runs):
    skewed = populations()["very skewed, lognormal σ = 1"]
    plain, logarithm = (coverage(skewed, kind, runs) for kind in list(INTERVALS)[:2])
    assert logarithm >= 0.88
    assert logarithm > plain + 0.005


def test_the_truths_of_the_simulations_are_those_of_their_populations():
    for name, of in populations().items():
        values = of.draw(np.random.default_rng(5), (1000, 1000)).ravel()
        np.testing.assert_allclose(of.mean, values.mean(), rtol=4e-3, err_msg=name)
        np.testing.assert_allclose(of.middle, stats.trim_mean(values, 0.25), rtol=4e-3)


def test_the_table_of_the_page_is_what_the_command_prints():
    page = (ROOT / "docs" / "statistics.md").read_text("utf-8")
    assert "python -m experiments.runs.results.coverage" in page
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    rows = {(row[0], row[1]): row[2:] for row in lines if len(row) == len(RUNS) + 2}
    for name, population in populations().items():
        for kind in INTERVALS:
            for place, runs in enumerate(RUNS[:3]):
                expected = coverage(population, kind, runs)
                assert abs(float(rows[name, kind][place]) - expected) < 0.0051


def test_with_the_error_over_states_the_interval_holds_the_error_over_all_states():
    """Five runs share 100 states; a state's error has a part that is common to the runs."""
    runs, states, simulations = 5, 100, 1_000
    random = np.random.default_rng(3)
    of_run = np.exp(0.2 * random.standard_normal((simulations, runs, 1)))
    common = random.standard_normal((simulations, 1, states))
    squares = (of_run * (common + random.standard_normal((simulations, runs, states)))) ** 2
    truth = np.sqrt(2) * np.exp(0.2**2 / 2)
    spread = squares.std(-1, ddof=1) / np.sqrt(states)
    error = np.sqrt(squares.mean(-1) + spread) - np.sqrt(squares.mean(-1))
    over_runs = mean_interval(np.sqrt(squares.mean(-1)), logarithm=True)
    both = widened(over_runs, error.mean(-1))
    covered = [((each.low < truth) & (truth < each.high)).mean() for each in (over_runs, both)]
    assert covered[0] < 0.94 < covered[1] < 0.98


def test_widening_adds_half_widths_by_their_squares():
    of_means = Interval(np.array([4.0, 0.0]), np.array([1.0, -3.0]), np.array([16.0, 3.0]))
    mean, low, high = widened(of_means, np.array([4 / 1.959964, 4 / 1.959964]))
    assert mean.tolist() == [4.0, 0.0]
    # On the logarithm √(log(4)² + 1²) = 1.7093; elsewhere √(3² + 4²) = 5.
    assert high == pytest.approx([4 * np.exp(1.7093), 5.0], rel=1e-4)
    assert low == pytest.approx([4 / np.exp(1.7093), -5.0], rel=1e-4)


def test_for_few_normal_runs_the_interval_is_as_wide_as_students():
    draws = np.random.default_rng(14).standard_normal((600, 10))
    _, low, high = mean_interval(draws)
    student = 2 * stats.t.ppf(0.975, 9) * draws.std(axis=1, ddof=1) / np.sqrt(10)
    np.testing.assert_allclose(((high - low) / student).mean(), 1.0, atol=0.02)


def test_one_run_has_a_mean_and_no_interval_and_none_has_neither():
    mean, low, high = mean_interval(np.array([[3.0], [np.nan]]))
    np.testing.assert_array_equal(mean, [3.0, np.nan])
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert np.isnan(mean_interval(np.zeros((2, 0))).mean).all()


def test_two_runs_say_little():
    _, low, high = mean_interval(np.array([1.0, 4.0]))
    # Mean 2.5, standard error 1.5, and the quantile 12.7062 of one degree of freedom.
    np.testing.assert_allclose([low, high], [-16.5593, 21.5593], rtol=1e-5)


def test_equal_values_have_an_interval_of_no_width():
    mean, low, high = mean_interval(np.full(7, 0.1))
    assert low <= mean <= high
    np.testing.assert_allclose([low, high], 0.1, rtol=1e-14)


def test_a_runs_end_leaves_the_mean_and_interval_of_the_others():
    values = np.random.default_rng(6).standard_normal((2, 12)) + 5
    values[1, [3, 7]] = np.nan
    values[1, 8] = np.inf
    mean, low, high = mean_interval(values)
    survivors = values[1][np.isfinite(values[1])]
    alone = mean_interval(survivors)
    np.testing.assert_allclose(mean[1], survivors.mean())
    assert abs(low[1] - alone.low) < 0.15 * (alone.high - alone.low)
    assert abs(high[1] - alone.high) < 0.15 * (alone.high - alone.low)


def test_one_survivor_of_many_has_no_interval():
    values = np.full(10, np.nan)
    values[4] = 2.0
    mean, low, _ = mean_interval(values)
    assert mean == 2.0
    assert np.isnan(low)


def test_the_same_values_give_the_same_interval_however_many_are_asked_at_once():
    values = np.random.default_rng(7).standard_normal((300, 5))
    together, alone = mean_interval(values), mean_interval(values[277])
    np.testing.assert_allclose(together.low[277], alone.low, rtol=1e-12)
    np.testing.assert_allclose(together.high[277], alone.high, rtol=1e-12)
    np.testing.assert_array_equal(mean_interval(values).low, together.low)


def test_a_thousand_runs_over_time_take_no_more_than_seconds():
    values = np.random.default_rng(8).standard_normal((100, 1024))
    _, low, high = mean_interval(values)
    np.testing.assert_allclose((high - low).mean(), 2 * 1.96 / 32, rtol=0.05)


def test_pairing_removes_what_two_rules_share():
    numbers = np.random.default_rng(9)
    shared = 100 * numbers.standard_normal(20)
    first, second = shared + 1, shared + 0.1 * numbers.standard_normal(20)
    mean, low, high = paired_difference(first, second)
    np.testing.assert_allclose(mean, (first - second).mean())
    assert 0.9 < low < mean < high < 1.1


def test_a_pair_counts_only_where_both_runs_survive():
    mean, _, _ = paired_difference(
        np.array([1.0, np.nan, 5.0, np.inf]), np.array([0.5, 1.0, 4.0, np.inf])
    )
    assert mean == 0.75
    with pytest.raises(ValueError, match="pairs of shapes"):
        paired_difference(np.ones(3), np.ones(1))


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0, 6.0])) == 3.5
    assert interquartile_mean(np.array([np.inf, 1.0, 2.0, 3.0])) == 2.5
    assert np.isnan(interquartile_mean(np.array([np.nan])))


def test_the_interquartile_mean_of_fewer_than_four_is_the_mean():
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4
    assert interquartile_mean(np.array([1.0, 2.0, 9.0, 4.0])) == 3
    values = np.array([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]])
    np.testing.assert_allclose(interquartile_interval(values), mean_interval(values))


def test_the_interval_of_an_interquartile_mean_has_the_winsorised_variance():
    center, low, high = interquartile_interval(np.array([[1.0, 9.0, 4.0, 2.0, 5.0]]))
    # Winsorised 2 2 4 5 5: squares 9.2 about 3.6, three values left, t of two degrees 4.302653.
    half = 4.302653 * np.sqrt(9.2 / 6)
    expected = [11 / 3, 11 / 3 - half, 11 / 3 + half]
    np.testing.assert_allclose([center[0], low[0], high[0]], expected, rtol=1e-6)


def test_a_statistic_of_few_runs_has_students_interval_over_pseudo_values():
    values = np.random.default_rng(11).standard_normal((3, 5)) + 4
    found = statistic_interval(values, lambda means: means[1])
    np.testing.assert_allclose(found, mean_interval(values[1]))
    # The logarithm's pseudo-values are near those of its derivative.
    narrow = 4 + 0.01 * values
    logarithm = statistic_interval(narrow, lambda means: np.log(means[0]))
    mean, low, high = mean_interval(narrow[0])
    np.testing.assert_allclose(
        [logarithm.low, logarithm.high], np.log(mean) + (np.array([low, high]) - mean) / mean,
        rtol=1e-4,
    )  # fmt: skip


def test_a_note_says_what_the_intervals_of_its_rows_are():
    assert interval_name([3, 9]) == "95 % interval, Student's t"
    assert interval_name([10, 1]) == "95 % bootstrap interval"
    assert interval_name([30], logarithm=True) == "95 % interval, Student's t on the logarithm"
    both = "95 % interval, Student's t below 10 seeds, else bootstrap"
    assert interval_name([3, 30], "seeds") == both


def test_importing_the_intervals_loads_no_scipy_stats():
    program = "import sys, experiments.runs.results.intervals; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr
