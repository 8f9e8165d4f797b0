"""Schedules scale each part's own step size by literals that a human can check."""

import pytest
import torch

from neural_tdc.learning.schedules import EXPONENTS, check_schedule, exponents, schedule


def factors(name, update):
    return [float(factor) for factor in schedule(name)(torch.tensor(update))]


@pytest.mark.parametrize(
    ("name", "update", "expected"),
    [
        ("constant", 0, [1, 1, 1]),
        ("constant", 10**9, [1, 1, 1]),
        # 32 = 2⁵, so that (k+1)^(−3/5) = 1/8 and (k+1)^(−2/5) = 1/4.
        ("general", 0, [1, 1, 1]),
        ("general", 31, [1 / 8, 1 / 4, 1 / 4]),
        # 8 = 2³: (k+1)^(−1) = 1/8 and (k+1)^(−2/3) = 1/4.
        ("strongly-convex", 0, [1, 1, 1]),
        ("strongly-convex", 7, [1 / 8, 1 / 4, 1 / 4]),
        ("polynomial:0.5", 24, [1 / 5, 1 / 5, 1 / 5]),
        ("polynomial:1,0.5,0", 15, [1 / 16, 1 / 4, 1]),
        # (20 + 140)/20 = 8; (0.5 + 7)/0.5 = 15.
        ("strongly-convex@20", 140, [1 / 8, 1 / 4, 1 / 4]),
        ("strongly-convex@20", 0, [1, 1, 1]),
        ("polynomial:0.5@0.5", 7, [15**-0.5] * 3),
    ],
)
def test_factors_of_body_head_and_auxiliary_are_these(name, update, expected):
    assert factors(name, update) == pytest.approx(expected, rel=1e-14)


def test_the_exponents_of_the_papers_theorems_have_names():
    assert EXPONENTS["general"] == (3 / 5, 2 / 5, 2 / 5)
    assert EXPONENTS["strongly-convex"] == (1, 2 / 3, 2 / 3)
    assert exponents("polynomial:0.25") == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("name", ["general", "strongly-convex"])
def test_the_body_slows_down_against_the_head_and_the_auxiliary_keeps_pace_with_it(name):
    early, late = factors(name, 10), factors(name, 10_000)
    assert late[0] / late[1] < early[0] / early[1] / 2
    assert early[1] == early[2]
    assert late[1] == late[2]


def test_factors_are_double_precision_whatever_the_counter_is():
    for counter in (torch.tensor(3), torch.tensor(3, dtype=torch.int32)):
        assert all(factor.dtype == torch.float64 for factor in schedule("general")(counter))
        assert all(factor.shape == () for factor in schedule("constant")(counter))


def test_a_late_update_does_not_overflow():
    assert factors("polynomial:1", 10**15 - 1) == pytest.approx([1e-15] * 3, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "cosine",
        "",
        "Constant",
        "polynomial",
        "polynomial:",
        "polynomial:a",
        "polynomial:0.5,0.5",
        "polynomial:1,1,1,1",
        "polynomial:-0.1",
        "polynomial:1.1",
        "polynomial:nan",
        "polynomial:0.5,inf,0",
        "general@0",
        "general@",
        "general@nan",
        "general@inf",
        "linear@5",
    ],
)
def test_a_name_that_is_no_schedule_is_refused_in_one_line_that_names_it(name):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        schedule(name)
    assert repr(name) in str(refusal.value)


def test_the_linear_schedule_falls_from_1_to_0_at_the_end_of_the_run_for_all_parts():
    falling = schedule("linear", 4)
    found = [[float(part) for part in falling(torch.tensor(update))] for update in range(6)]
    assert found == [[1.0] * 3, [0.75] * 3, [0.5] * 3, [0.25] * 3, [0.0] * 3, [0.0] * 3]


def test_a_schedule_that_ends_with_the_run_must_know_its_steps():
    check_schedule("linear")
    with pytest.raises(ValueError, match="schedule 'linear' ends with the run: its steps"):
        schedule("linear")
    with pytest.raises(ValueError, match="schedule 'linaer' is not one of linear, constant, gen"):
        check_schedule("linaer")
