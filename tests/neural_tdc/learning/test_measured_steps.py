"""When a run is measured: an even grid, or one that is denser at the beginning."""

import numpy as np

from neural_tdc.learning.schedules import measured_steps


def test_an_even_grid_begins_after_the_first_update_and_holds_the_last():
    assert measured_steps(10, 4) == [1, 5, 9, 10]
    assert measured_steps(9, 4) == [1, 5, 9]
    assert measured_steps(3, 100) == [1, 3]


def test_without_a_grid_there_are_fifty_measurements_on_a_square():
    # 8 = 20,000/50², and the i-th is at 8i².
    found = measured_steps(20_000, None)
    assert found == [1, *(8 * index**2 for index in range(1, 51))]
    assert np.diff(found).max() == 8 * (50**2 - 49**2) == 792


def test_a_short_run_is_measured_after_every_update_and_never_twice():
    assert measured_steps(1, None) == [1]
    assert measured_steps(14, None) == list(range(1, 15))
    odd = measured_steps(1_234, None)
    assert odd == sorted(set(odd))
    assert (odd[0], odd[-1]) == (1, 1_234)
    assert 45 < len(odd) <= 51


def test_a_longer_run_keeps_the_measurements_of_a_shorter_one_and_goes_on_along_its_square():
    short = measured_steps(2_500, None)
    longer = measured_steps(3_000, None, length=2_500)
    assert longer[: len(short)] == short
    # 51² to 54² are below 3,000.
    assert longer[len(short) :] == [2_601, 2_704, 2_809, 2_916, 3_000]


def test_what_is_measured_already_is_left_out():
    assert measured_steps(20_000, None, after=18_000) == [8 * 48**2, 8 * 49**2, 20_000]
