"""The coverage benchmark: its logs, its truth, its intervals, and results that are found again."""

import json

import numpy as np
import pytest
import torch

from benchmarks.coverage import run
from benchmarks.coverage.cases import CHAINS, logs
from benchmarks.coverage.run import METHODS, Job, result
from benchmarks.coverage.table import covered, ends, table
from neural_tdc.learning.resampling import data_interval


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Take fewer resamples than the benchmark does."""
    monkeypatch.setattr(run, "RESAMPLES", 4)


def test_a_log_depends_on_its_number_alone():
    many, later = logs("boyan", 60, 0, 4), logs("boyan", 60, 2, 2)
    assert torch.equal(many.transitions.reward[2:], later.transitions.reward)
    assert not torch.equal(many.transitions.observation[0], many.transitions.observation[1])


def test_the_truth_is_that_of_the_start():
    assert logs("boyan", 20, 0, 2).start_value.tolist() == pytest.approx([-24.667] * 2, abs=1e-3)
    # The walk starts in the middle, whatever its behaviour.
    assert logs("walk-rare", 20, 0, 1).start_value.tolist() == pytest.approx([0.5429], abs=1e-4)
    garnet = logs("garnet", 20, 0, 30)
    assert len(garnet.start_value.unique()) > 5


def test_rare_actions_have_ratios_of_three():
    ratio = logs("walk-rare", 400, 0, 1).transitions.ratio
    assert sorted(ratio.unique().tolist()) == pytest.approx([0.5, 3.0])


@pytest.mark.parametrize("method", METHODS)
def test_a_job_has_a_value_of_every_resample_and_is_found_again(tmp_path, monkeypatch, method):
    job = Job("boyan", 500, method, 0, 2)
    found = result(job, tmp_path)
    assert np.shape(found["values"]) == (2, 4)
    assert np.abs(np.array(found["values"]) + 24.667).max() < 5
    assert found == json.loads((tmp_path / job.file).read_text())
    monkeypatch.setitem(METHODS, method, lambda data: 1 / 0)
    assert result(job, tmp_path) == found


def test_the_ends_are_those_of_the_product():
    values = np.random.default_rng(0).normal(size=(3, 30))
    low, high = ends(values, 0.95)
    for row, each in enumerate(values):
        expected = data_interval(torch.from_numpy(each))
        assert (low[row], high[row]) == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_coverage_counts_the_logs_whose_interval_holds_the_truth():
    around = [[0.0, -1.0, 1.0], [5.0, 4.9, 5.1]]
    found = {"truth": [0.0, 0.0], "values": around, "units": [3, 4], "effective": [1.0, 0.5]}
    assert covered(found, 0.95) == 0.5
    assert "| boyan | 500 | 4 | 75% | td |" in table({("boyan", 500, "td"): found})


def test_every_chain_makes_logs():
    for name in CHAINS:
        assert logs(name, 10, 0, 1).transitions.reward.shape == (1, 10)
