import json

import numpy as np
import pytest

from experiments.runs.results.history import History
from experiments.runs.results.statistics import auc, measurement_weights, summarise, summary
from neural_tdc.learning.schedules import measured_steps


def history_of(values, diverged_at=None, name="error/rmsve"):
    """A history of one metric, values [time, run]; diverged_at {run: measurement}."""
    history = History()
    for index, row in enumerate(values):
        flags = [index >= (diverged_at or {}).get(run, len(values)) for run in range(len(row))]
        history.append(10 * index, {name: np.array(row)}, np.array(flags))
    return history


def test_auc_is_the_mean_over_a_runs_measurements():
    history = history_of([[1.0, 4.0, 9.0], [3.0, 4.0, 9.0]], {2: 1})
    np.testing.assert_array_equal(auc(history, "error/rmsve"), [2.0, 4.0, np.nan])
    np.testing.assert_array_equal(auc(history, "error/rmsve", np.inf), [2.0, 4.0, np.inf])


def test_on_an_even_grid_whose_end_is_cut_off_all_measurements_weigh_the_same():
    for steps in ([7], [1, 5], [1, 101, 201], [1, 101, 201, 260], [0, 3, 6, 9]):
        assert measurement_weights(np.array(steps)).tolist() == [1.0] * len(steps)


def test_on_an_uneven_grid_the_auc_is_the_integral_over_updates():
    # Trapezoids of a curve that falls from 9 to 5 and to 1: (7·4 + 3·16)/20.
    history = History()
    for step, value in ((1, 9.0), (5, 5.0), (21, 1.0)):
        history.append(step, {"error/rmsve": np.array([value])}, np.array([False]))
    assert measurement_weights(history.steps).tolist() == [2, 10, 8]
    assert auc(history, "error/rmsve") == pytest.approx([3.8])


def test_an_uneven_grid_of_fifty_measurements_gives_the_auc_of_a_dense_even_one():
    def of(steps):
        history = History()
        for step in steps:
            error = np.array([2 + 5 * np.exp(-step / 1_500), 3 / np.sqrt(1 + step / 400)])
            history.append(step, {"error/rmsve": error}, np.zeros(2, dtype=bool))
        return auc(history, "error/rmsve")

    dense = of(range(1, 20_001, 5))
    np.testing.assert_allclose(of(measured_steps(20_000, None)), dense, rtol=2e-3)


def test_the_interval_of_an_error_holds_that_of_the_truths_states_too():
    history = History()
    values = {"error/rmsve": np.array([3.0, 5.0]), "noise/rmsve_states": np.array([0.8, 1.2])}
    history.append(1, values, np.zeros(2, dtype=bool))
    # log(high/4)² = (12.706·1/4)² + (1.96·1/4)².
    assert summarise(history)["rmsve"]["final"]["high"] == pytest.approx(99.526, rel=1e-4)


def test_a_summary_holds_final_and_auc_of_the_survivors():
    history = history_of([[1.0, 4.0, 9.0], [3.0, 5.0, 9.0]], {2: 1})
    entry = summarise(history)["rmsve"]
    # Two runs, standard error 1: Student's t for the logarithm of the mean, 4·exp(±12.706/4).
    expected = {"mean": 4.0, "low": 0.16692, "high": 95.856, "median": 4.0}
    assert entry["final"] == pytest.approx(expected, rel=1e-4)
    assert entry["auc"]["mean"] == 3.25
    assert entry["auc"]["median"] == 3.25


def test_the_median_is_not_the_mean():
    assert summarise(history_of([[1.0, 2.0, 9.0]]))["rmsve"]["final"]["median"] == 2.0


def test_intervals_of_errors_are_on_the_logarithm_and_others_are_not():
    values = [[1.0, 2.0, 9.0]]
    error = summarise(history_of(values))["rmsve"]["final"]
    loss = summarise(history_of(values, name="test/loss"))["test_loss"]["final"]
    norm = summarise(history_of(values, name="norm/body"))["norm_body"]["final"]
    assert error == loss
    assert error["low"] > 0 > norm["low"]
    assert error["low"] * error["high"] == pytest.approx(16)
    assert norm["low"] + norm["high"] == pytest.approx(8)


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
    result = summary(history, problem="baird", rule="td", steps=10, seed=3, seconds={})
    entry = json.loads(json.dumps(result, allow_nan=False))["metrics"]["rmsve"]
    nothing = {"mean": None, "low": None, "high": None, "median": None}
    assert entry == {"final": nothing, "auc": nothing}
    assert result["diverged"] == result["runs"] == 2


def test_one_run_has_null_ends():
    entry = summarise(history_of([[1.5]]))["rmsve"]["final"]
    assert entry == {"mean": 1.5, "low": None, "high": None, "median": 1.5}


def test_a_summary_names_what_was_run_and_how_fast():
    history = history_of([[1.0, 2.0, 4.0]])
    result = summary(
        history, problem="boyan", rule="tdc", steps=1000, seed=7, seconds={"learn": 2.0}
    )
    assert {name: result[name] for name in list(result)[:-1]} == {
        "problem": "boyan",
        "rule": "tdc",
        "runs": 3,
        "steps": 1000,
        "seed": 7,
        "diverged": 0,
        "seconds": {"learn": 2.0},
        "run_steps_per_second": 1500.0,
    }


def test_a_history_without_measurements_has_an_empty_summary():
    assert summarise(History()) == {}
