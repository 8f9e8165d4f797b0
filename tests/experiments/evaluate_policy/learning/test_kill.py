"""`kill -9` at random moments, and what a resumed run then has; see kill_trial.py for thirty."""

import pytest


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_left_alone(kill_trial):
    found = kill_trial("kill_trial", 4)
    assert found["kills_after_a_checkpoint"] >= 2
    expected = {"kills": 4, "status": 0, "same_bits": True, "same_step": True}
    expected |= {"same_csv": True, "same_curves": True, "points": 81}
    assert {name: found[name] for name in expected} == expected
