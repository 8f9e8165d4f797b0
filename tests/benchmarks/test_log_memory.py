"""The benchmark of the memory that a log of pictures takes."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.log_memory import IN_PYTHON, run_case, write_log


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is not told here")
def test_a_case_tells_its_peaks_with_a_small_log_and_with_the_whole_one(tmp_path):
    small, whole = tmp_path / "small.npz", tmp_path / "whole.npz"
    assert write_log(small, 800, (1, 2, 3)) == 4_800
    assert write_log(whole, 900, (1, 2, 3)) == 5_400
    assert np.load(whole)["observation"].shape == (900, 1, 2, 3)
    assert "evaluate" in IN_PYTHON
    peaks = run_case("evaluate", small, whole, 2)
    assert peaks["small"] > 100e6
    assert peaks["whole"] > 100e6
