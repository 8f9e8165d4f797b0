"""Commands are timed in processes of their own, each with its own cache of compiled programs."""

import subprocess
import sys

import pytest

from benchmarks.commands import phases, timed


def test_the_seconds_of_the_process_are_counted_and_its_cache_is_the_one_given(tmp_path):
    code = (
        "import os, pathlib, time\n"
        "while time.process_time() < 0.3: pass\n"
        "time.sleep(0.2)\n"
        "pathlib.Path(os.environ['TORCHINDUCTOR_CACHE_DIR'], 'seen').touch()\n"
    )
    seconds = timed([sys.executable, "-c", code], tmp_path)
    # The clock of the process ticks in hundredths.
    assert 0.29 <= seconds["cpu"] < 3
    assert seconds["wall"] > 0.5
    assert (tmp_path / "seen").exists()


def test_a_command_that_fails_is_no_time(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        timed([sys.executable, "-c", "raise SystemExit(2)"], tmp_path)


def test_phases_are_those_that_the_program_stored(tmp_path):
    assert phases(tmp_path) == {}
    (tmp_path / "summary.json").write_text('{"seconds": {"learn": 2.5}, "runs": 3}')
    assert phases(tmp_path) == {"learn": 2.5}
