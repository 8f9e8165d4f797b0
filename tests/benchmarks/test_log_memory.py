"""The benchmark of the memory that a log of pictures takes."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.log_memory import in_python, tell_peak, write_log


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is not told here")
def test_a_log_is_written_and_evaluated_and_the_peak_told(tmp_path, capsys):
    path = tmp_path / "log.npz"
    assert write_log(path, 900, (1, 2, 3)) == 5_400
    assert np.load(path)["observation"].shape == (900, 1, 2, 3)
    in_python(path, "evaluate", 2)
    tell_peak()
    assert int(capsys.readouterr().out) > 100e6
