"""Probability of improvement and performance profiles: by hand, and how often intervals cover."""

import numpy as np
import pytest

from experiments.runs.results.comparisons import improvement_probability, performance_profile


def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties():
    first, second = np.array([1.0, 3.0, 5.0]), np.array([3.0, 2.0])
    # 1 < 3, 1 < 2; 3 = 3, 3 > 2; 5 > 3, 5 > 2.
    found = improvement_probability(first, second)
    assert float(found.mean) == pytest.approx(3.5 / 6)
    assert float(improvement_probability(second, first).mean) == pytest.approx(2.5 / 6)
    assert 0 <= found.low < found.mean < found.high <= 1
    assert np.isnan(improvement_probability(first, second[:1]).low)


def test_a_profile_is_the_share_of_runs_at_or_above_each_threshold():
    values, thresholds = np.array([1.0, 4.0, 4.0, 9.0]), np.array([0.0, 1.0, 4.0, 5.0, 10.0])
    found = performance_profile(values, thresholds)
    assert found.mean.tolist() == [1.0, 1.0, 0.75, 0.25, 0.0]
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert found.low[2] < 0.75 < found.high[2]
    assert np.isnan(performance_profile(values[:1], thresholds).high).all()


def test_the_interval_of_an_improvement_covers_the_truth_about_as_often_as_it_says():
    rng, hits, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        found = improvement_probability(rng.normal(size=12), rng.normal(size=15))
        hits += bool(found.low <= 0.5 <= found.high)
    # 60 draws of 95 % give fewer than 51 with a probability below 1e-3.
    assert hits >= 51
