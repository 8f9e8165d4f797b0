import math

import pytest
import torch

from neural_tdc.metrics.paired_errors import (
    episode_sums,
    equally_good,
    mean_with_error,
    paired_error_difference,
    student_quantile,
)


def test_a_paired_difference_has_students_interval_over_episodes():
    error = torch.tensor([3.0, 5.0, 2.0, 4.0, 9.0, 7.0], dtype=torch.float64)
    other = torch.tensor([1.0, 3.0, 1.0, 3.0, 5.0, 3.0], dtype=torch.float64)
    episode = torch.tensor([4, 4, 7, 7, 9, 9])
    sums = [episode_sums(each.split([3, 1, 2]), episode) for each in (error, other)]
    found = paired_error_difference(*sums)
    # Differences by episode 2, 1, 4: mean 7/3, standard error of three means √(7/3)/√3.
    assert found.mean == pytest.approx(7 / 3)
    half = student_quantile(2) * math.sqrt(7 / 3) / math.sqrt(3)
    assert found.low == pytest.approx(7 / 3 - half)
    assert found.high == pytest.approx(7 / 3 + half)


def test_one_episode_says_nothing_of_how_clear_a_difference_is():
    error = torch.tensor([3.0, 5.0], dtype=torch.float64)
    sums = episode_sums([error], torch.tensor([0, 0]))
    found = paired_error_difference(sums, sums._replace(total=0 * sums.total))
    assert found == (4.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (12, 2.17881), (1000, 1.96234)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


def test_candidates_are_equally_good_within_one_standard_error_of_the_best():
    # By episode the second is worse by 1 ± 0, the third by ½ ± more than that, the last not finite.
    best = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    third = torch.tensor([4.0, 4.0, 0.0, -2.0], dtype=torch.float64)
    error = torch.stack([best, best + 1, third, best * math.nan], 1)
    good = equally_good(episode_sums([error], torch.tensor([0, 1, 2, 3])))
    assert good.tolist() == [True, False, True, False]


def test_one_candidate_alone_is_good_where_one_episode_says_nothing_of_chance():
    error = torch.tensor([[1.0, 1.1], [2.0, 2.1]], dtype=torch.float64)
    assert equally_good(episode_sums([error], torch.tensor([3, 3]))).tolist() == [True, False]


def test_the_error_of_a_mean_is_that_of_sums_over_episodes_of_unequal_length():
    difference = torch.tensor([[1.0, 0.0], [3.0, 0.0], [-1.0, 6.0]], dtype=torch.float64)
    mean, error = mean_with_error(episode_sums([difference], torch.tensor([0, 0, 1])))
    assert mean.tolist() == [1.0, 2.0]
    # Residuals 4 − 2·1 and −1 − 1; 0 − 2·2 and 6 − 2: √(Σ residual²·2/1)/3.
    assert error.tolist() == pytest.approx([math.sqrt(8 * 2) / 3, math.sqrt(32 * 2) / 3])
