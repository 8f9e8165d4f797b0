"""A small log, for the tests of this folder."""

import numpy as np
import pytest

from tests.envs.logs.log_arrays import LOG


@pytest.fixture
def written(tmp_path):
    """Return a function that writes LOG with changes to a file; None leaves an array out."""

    def write(**changes):
        arrays = {name: array for name, array in (LOG | changes).items() if array is not None}
        path = tmp_path / "walk.npz"
        np.savez(path, **arrays)
        return path

    return write
