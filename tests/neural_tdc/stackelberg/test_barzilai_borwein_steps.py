"""The two Barzilai–Borwein steps of a secant pair, and how rates change over a course."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from neural_tdc.stackelberg.barzilai_borwein import (
    rate_norm_correlation,
    secant_rate,
)
from tests.neural_tdc.stackelberg.descent_networks import HIGH, LOW, normal


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_two_steps_of_a_secant_pair_are_computed_by_hand():
    # s = (3, 4), y = (1, 2): ‖s‖² = 25, s·y = 11, ‖y‖² = 5
    displacement, change = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])
    previous = torch.tensor(0.5)
    assert float(secant_rate(displacement, change, previous, LOW, HIGH)) == pytest.approx(25 / 11)
    short = secant_rate(displacement, change, previous, LOW, HIGH, "short")
    assert float(short) == pytest.approx(11 / 5)
    # negative curvature counts by its size
    turned = secant_rate(displacement, -change, previous, LOW, HIGH)
    assert float(turned) == pytest.approx(25 / 11)


@pytest.mark.parametrize("kind", ["long", "short"])
def test_a_quadratic_of_one_curvature_gets_the_inverse_of_it(kind):
    displacement = normal(6)
    found = secant_rate(displacement, 4 * displacement, scalar(1.0), LOW, HIGH, kind)
    assert float(found) == pytest.approx(0.25, abs=1e-15)


def test_the_long_step_is_never_below_the_short_one():
    for index in range(20):
        pair = normal(2, 5, name=f"pair{index}")
        long = secant_rate(pair[0], pair[1], scalar(1.0), 1e-12, 1e12, "long")
        short = secant_rate(pair[0], pair[1], scalar(1.0), 1e-12, 1e12, "short")
        assert float(long) >= float(short)


def test_the_rate_is_clipped_to_its_range():
    one = torch.ones(3, dtype=torch.float64)
    assert float(secant_rate(one, 1e-9 * one, scalar(1.0), LOW, HIGH)) == HIGH
    assert float(secant_rate(one, 1e9 * one, scalar(1.0), LOW, HIGH)) == LOW


@pytest.mark.parametrize("kind", ["long", "short"])
def test_a_pair_that_tells_nothing_keeps_the_previous_rate(kind):
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for displacement, change in ((zero, one), (one, zero), (zero, zero), (one, one * math.nan)):
        found = secant_rate(displacement, change, scalar(0.7), LOW, HIGH, kind)
        assert float(found) == pytest.approx(0.7)


def test_no_curvature_along_the_step_allows_the_longest_one():
    found = secant_rate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor(0.7),
                        LOW, HIGH)  # fmt: skip
    assert float(found) == HIGH


def test_rates_of_many_runs_at_once_equal_one_at_a_time():
    pairs, previous = normal(4, 2, 5), normal(4, name="previous").abs()
    together = torch.vmap(lambda p, r: secant_rate(p[0], p[1], r, LOW, HIGH))(pairs, previous)
    for index in range(4):
        alone = secant_rate(*pairs[index], previous[index], LOW, HIGH)
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-15)


def test_the_correlation_of_opposed_series_is_minus_one():
    norms = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = rate_norm_correlation(3 / norms, norms)
    assert found.logarithmic == pytest.approx(-1)
    assert found.rank == pytest.approx(-1)
    # a power law is straight in logarithms, and any rising curve in ranks
    found = rate_norm_correlation(norms.exp(), norms)
    assert found.rank == pytest.approx(1)
    assert found.logarithmic < 0.999


def test_the_correlation_agrees_with_scipy_ties_included():
    rates, norms = normal(40).abs(), normal(40, name="norms").abs()
    rates[10:15] = rates[9]
    found = rate_norm_correlation(rates, norms)
    assert found.rank == pytest.approx(scipy.stats.spearmanr(rates, norms).statistic, abs=1e-12)
    logarithmic = scipy.stats.pearsonr(rates.log(), norms.log()).statistic
    assert found.logarithmic == pytest.approx(logarithmic, abs=1e-12)


def test_a_rate_that_never_changes_has_no_correlation():
    found = rate_norm_correlation(torch.ones(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert math.isnan(found.logarithmic)
    assert math.isnan(found.rank)
    with pytest.raises(ValueError, match="at least 3 steps"):
        rate_norm_correlation(torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match="above 0"):
        rate_norm_correlation(torch.ones(3), torch.tensor([1.0, 0.0, 2.0]))
