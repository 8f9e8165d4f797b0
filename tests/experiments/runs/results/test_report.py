import re
import shutil
import sys

import numpy as np
import pytest

from experiments.runs.results.history import History
from experiments.runs.results.report import (
    divergence_warning,
    large_number,
    mean_with_interval,
    number,
    table,
    tensorboard_line,
)
from experiments.runs.results.statistics import summary


def result(rule="td", runs=3, diverged=0, names=("error/rmsve", "error/lstd_rmsve")):
    history = History()
    values = {name: np.linspace(0.4, 0.6, runs) * (i + 1) for i, name in enumerate(names)}
    history.append(100, values, np.arange(runs) < diverged)
    return summary(history, problem="boyan", rule=rule, steps=100, seed=0, seconds={})


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.531247, 0.0123, "0.531"),
        (0.531247, 0.00123, "0.5312"),
        (24.66712, 1.2, "24.7"),
        (24.66712, 12.0, "25"),
        (24.66712, 140.0, "25"),
        (0.53124712, None, "0.5312"),
        (1234.5678, None, "1235"),
        (-0.531247, 0.0123, "-0.531"),
        (0.0, None, "0"),
        (0.0001234567, 0.0000012, "1.235e-04"),
        (1.23456e9, 1e7, "1.235e+09"),
        (None, 0.1, "–"),
        (float("nan"), None, "–"),
        (float("inf"), None, "–"),
    ],
)
def test_a_number_has_the_digits_that_its_uncertainty_leaves_it(value, spread, text):
    assert number(value, spread) == text


def test_an_interval_stands_behind_its_mean_with_as_many_digits():
    entry = {"mean": 0.53124, "low": 0.5212, "high": 0.5413, "median": 0.5}
    assert mean_with_interval(entry) == "0.531 [0.521, 0.541]"
    assert mean_with_interval({**entry, "low": None, "high": None}) == "0.5312"
    assert mean_with_interval({"mean": None, "low": None, "high": None, "median": None}) == "–"
    assert mean_with_interval(None) == "–"
    equal = {"mean": 0.1, "low": 0.1, "high": 0.1, "median": 0.1}
    assert mean_with_interval(equal) == "0.10000 [0.10000, 0.10000]"


def test_the_table_is_aligned_and_counts_the_diverged():
    lines = table(
        {
            "td": result("td", 7, 2),
            "semi_gradient+lstd": result("semi_gradient+lstd", 7),
            "tdc": result("tdc", 7, 7),
        }
    ).splitlines()
    heads = ["rule", "mean RMSVE", "median RMSVE", "mean LSTD-RMSVE", "mean AUC RMSVE", "diverged"]
    assert re.split("  +", lines[0]) == heads
    assert lines[0].index("mean RMSVE") == lines[2].index("0.") == lines[4].index("–")
    assert lines[2].endswith("2 of 7")
    assert lines[3].endswith("0 of 7")
    assert lines[4].split() == ["tdc", "–", "–", "–", "–", "7", "of", "7"]
    assert "RMSPBE" not in lines[0]
    assert "only their range" not in lines[5]


def test_an_error_that_is_rounding_is_shown_as_zero():
    exact = result()
    exact["metrics"]["lstd_rmsve"]["final"] = {"mean": 7.0326e-16, "low": 7.0326e-16, "high": 8e-16}
    small = result("tdc")
    small["metrics"]["lstd_rmsve"]["final"] = {"mean": 3e-9, "low": 3e-9, "high": 3e-9}
    lines = table({"td": exact, "tdc": small}).splitlines()
    column = lines[0].index("mean LSTD-RMSVE")
    assert lines[2][column:].split()[0] == "0"
    assert "e-16" not in lines[2]
    assert lines[3][column:].startswith("3.0000e-09 [")
    # An exact rule has no other error that tells the size of the values: its head does.
    for name in ("rmsve", "lstd_rmsve"):
        exact["metrics"][name] = {"final": {"mean": 2e-16}, "auc": {"mean": 2e-16}}
    exact["metrics"]["norm_head"] = {"final": {"mean": 3.0}, "auc": {"mean": 3.0}}
    assert table({"td": exact}).splitlines()[2].split()[:4] == ["td", "0", "0", "0"]


def test_intervals_are_called_what_they_are_and_means_what_they_are_of():
    errors = table({"td": result(runs=3), "tdc": result(runs=12)})
    assert errors.endswith(
        "means and medians over the runs that did not diverge; of an error, over each run's root "
        "[95 % interval, Student's t on the logarithm]"
    )
    columns = [("RMSVE", "rmsve", "final")]
    assert "[95 % interval, Student's t, of errors on" in table({"td": result(runs=3)}, columns)
    assert "[95 % bootstrap interval, of errors" in table({"td": result(runs=12)}, columns)


def test_only_a_rule_without_survivors_is_warned_about():
    assert divergence_warning(result(diverged=2)) is None
    warning = divergence_warning(result("tdc", diverged=3))
    assert warning.startswith("warning: tdc: all 3 runs diverged")


def test_the_line_that_starts_tensorboard_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/tensorboard")
    assert tensorboard_line("runs/my run") == "tensorboard --logdir 'runs/my run'"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert tensorboard_line("a") == f"{sys.executable} -m tensorboard.main --logdir a"


def test_large_numbers_have_three_digits():
    shown = [large_number(value) for value in (0.5, 999.6, 1234.0, 1.6e6, 2e9, 999_999.0)]
    assert shown == ["0.5", "1k", "1.23k", "1.6M", "2G", "1M"]
