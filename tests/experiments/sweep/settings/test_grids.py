"""Grids of numbers as they are written on a command line."""

import math

import pytest

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import read_number
from experiments.sweep.results.tables import step_text
from experiments.sweep.settings.grids import grid


def test_numbers_powers_and_ranges_are_put_in_order():
    assert grid("--ratios", ["3", "2^-2:2^1", "10^-3"]) == [0.001, 0.25, 0.5, 1.0, 2.0, 3.0]


NO_NUMBER = "is not a number, a power such as 2^-3 or a range such as 2^-10:2^0"
NO_RANGE = (
    "is not a range: write two powers of one base, as 2^-10:2^0, or every third of them, as "
    "2^-10:2^0:3"
)


def test_a_range_may_leave_powers_out():
    assert grid("--body-steps", ["2^-7:2^0:3"]) == [2**-7, 2**-4, 2**-1]


def test_infinity_is_a_ratio_where_it_is_allowed():
    assert grid("--ratios", ["inf", "1"], infinite=True) == [1.0, math.inf]


@pytest.mark.parametrize("value", [2**-10, 0.25, 1.0, 2.0, 1000.0, math.inf])
def test_what_the_tables_print_is_read(value):
    shown = step_text(value)
    assert grid("--ratios", [shown], infinite=True) == [value]
    assert read_number(shown) == value


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "--ratios is an empty grid: give one value at least"),
        (["2^0:2^-3"], "--ratios 2^0:2^-3 is empty: its end is below its beginning"),
        (["0"], "--ratios 0 is not allowed: give a finite number above 0"),
        (["-1"], "--ratios -1 is not allowed: give a finite number above 0"),
        (["inf"], "--ratios inf is not allowed: give a finite number above 0"),
        (["nan"], "--ratios nan is not allowed: give a finite number above 0"),
        (["2^-1:2^1", "0.5"], "--ratios has 0.5 twice, a duplicate configuration; give it once"),
        (["0.1", "10^-1"], "--ratios has 0.1 twice, a duplicate configuration; give it once"),
        (["two"], f"--ratios 'two' {NO_NUMBER}"),
        (["2^-1:3^1"], f"--ratios '2^-1:3^1' {NO_RANGE}"),
        (["1:2"], f"--ratios '1:2' {NO_RANGE}"),
        (["2^-1:2^3:0"], f"--ratios '2^-1:2^3:0' {NO_RANGE}"),
        (["2^0:2^99999"], "--ratios 2^0:2^99999 has more than 10000 values"),
        (["2^9999"], f"--ratios '2^9999' {NO_NUMBER}"),
    ],
)
def test_what_is_no_grid_is_named_with_its_flag(texts, said):
    with pytest.raises(UsageError) as raised:
        grid("--ratios", texts)
    assert str(raised.value) == said
