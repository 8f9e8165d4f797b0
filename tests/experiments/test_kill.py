"""`kill -9` at random moments, and what a resumed run then has; see kill_trial.py for thirty."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trial forks its runs")
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_left_alone(tmp_path):
    trial = Path(__file__).with_name("kill_trial.py")
    done = subprocess.run(
        [sys.executable, str(trial), str(tmp_path), "5", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills_after_a_checkpoint"] >= 2
    expected = {"kills": 5, "status": 0, "same_bits": True, "same_step": True}
    expected |= {"same_csv": True, "same_curves": True, "points": 301}
    assert {name: found[name] for name in expected} == expected
