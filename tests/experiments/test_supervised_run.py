"""`kill -9` at random moments of a supervised run, and what a resumed one then has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trial forks its runs")
def test_a_population_killed_at_random_moments_ends_with_the_bits_of_one_left_alone(tmp_path):
    trial = Path(__file__).with_name("supervised_kill_trial.py")
    done = subprocess.run(
        [sys.executable, str(trial), str(tmp_path), "4", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0 < found.pop("step_at_last_kill") < 600
    assert found == {"status": 0, "same_bits": True, "same_step": True, "same_csv": True}
