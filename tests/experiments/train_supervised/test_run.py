"""`kill -9` at random moments of a supervised run, and what a resumed one then has."""

import pytest


@pytest.mark.slow
def test_a_population_killed_at_random_moments_ends_with_the_bits_of_one_left_alone(kill_trial):
    found = kill_trial("supervised_kill_trial", 3)
    assert 0 < found.pop("step_at_last_kill") < 320
    assert found == {"status": 0, "same_bits": True, "same_step": True, "same_csv": True}
