import json

import numpy as np
import pytest
from scipy import stats

from experiments.runs.history import History
from experiments.runs.statistics import (
    auc,
    interquartile_mean,
    mean_interval,
    paired_difference,
    summarise,
    summary,
)


def history_of(values, diverged_at=None, name="error/rmsve"):
    """A history of one metric, values [time, run]; diverged_at {run: measurement}."""
    history = History()
    for index, row in enumerate(values):
        flags = [index >= (diverged_at or {}).get(run, len(values)) for run in range(len(row))]
        history.append(10 * index, {name: np.array(row)}, np.array(flags))
    return history


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


def test_for_few_runs_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(4).standard_normal((4000, 6))
    _, low, high = mean_interval(draws, resamples=2000)
    coverage = ((low < 0) & (high > 0)).mean()
    plain = np.quantile(
        draws[:, np.random.default_rng(5).integers(6, size=(500, 6))].mean(-1), [0.025, 0.975], 1
    )
    plain_coverage = ((plain[0] < 0) & (plain[1] > 0)).mean()
    assert coverage > 0.91
    assert plain_coverage < 0.90


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


def test_two_runs_give_their_own_range_which_is_all_that_is_known():
    _, low, high = mean_interval(np.array([1.0, 4.0]))
    assert (float(low), float(high)) == (1.0, 4.0)


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


def test_auc_is_the_mean_over_a_runs_measurements():
    history = history_of([[1.0, 4.0, 9.0], [3.0, 4.0, 9.0]], {2: 1})
    np.testing.assert_array_equal(auc(history, "error/rmsve"), [2.0, 4.0, np.nan])
    np.testing.assert_array_equal(auc(history, "error/rmsve", np.inf), [2.0, 4.0, np.inf])


def test_a_summary_holds_final_and_auc_of_the_survivors():
    history = history_of([[1.0, 4.0, 9.0], [3.0, 5.0, 9.0]], {2: 1})
    entry = summarise(history)["rmsve"]
    assert entry["final"] == {"mean": 4.0, "low": 3.0, "high": 5.0, "median": 4.0}
    assert entry["auc"]["mean"] == 3.25
    assert entry["auc"]["median"] == 3.25


def test_the_median_is_not_the_mean():
    assert summarise(history_of([[1.0, 2.0, 9.0]]))["rmsve"]["final"]["median"] == 2.0


def test_errors_lose_their_group_others_join_it_and_settings_are_left_out():
    history = History()
    names = [
        "error/lstd_rmsve",
        "tracking_error/auxiliary_size",
        "features/effective_rank",
        "norm/body",
    ]
    names += ["step_size/head", "speed/run_steps_per_second"]
    history.append(0, {name: np.ones(2) for name in names}, np.zeros(2, dtype=bool))
    assert list(summarise(history)) == [
        "lstd_rmsve",
        "tracking_error_auxiliary_size",
        "features_effective_rank",
        "norm_body",
    ]


def test_all_diverged_is_null_in_json_and_counted():
    history = history_of([[1.0, 2.0], [3.0, 4.0]], {0: 1, 1: 1})
    result = summary(history, problem="baird", rule="td", steps=10, seed=3, seconds=0.5)
    entry = json.loads(json.dumps(result, allow_nan=False))["metrics"]["rmsve"]
    nothing = {"mean": None, "low": None, "high": None, "median": None}
    assert entry == {"final": nothing, "auc": nothing}
    assert result["diverged"] == result["runs"] == 2


def test_one_run_has_null_ends():
    entry = summarise(history_of([[1.5]]))["rmsve"]["final"]
    assert entry == {"mean": 1.5, "low": None, "high": None, "median": 1.5}


def test_a_summary_names_what_was_run_and_how_fast():
    history = history_of([[1.0, 2.0, 4.0]])
    result = summary(history, problem="boyan", rule="tdc", steps=1000, seed=7, seconds=2.0)
    assert {name: result[name] for name in list(result)[:-1]} == {
        "problem": "boyan",
        "rule": "tdc",
        "runs": 3,
        "steps": 1000,
        "seed": 7,
        "diverged": 0,
        "seconds": 2.0,
        "run_steps_per_second": 1500.0,
    }


def test_a_history_without_measurements_has_an_empty_summary():
    assert summarise(History()) == {}
