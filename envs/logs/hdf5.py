"""The reader of HDF5 files, D4RL's and others: arrays at the top or in groups, as group/name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.logs.columns import Columns
from envs.logs.npz import check_file

# The groups of a data set of Minari, which is read by its name.
_EPISODE = "episode_0"


@contextlib.contextmanager
def open_hdf5(source: str) -> Iterator[Columns]:
    """Open an HDF5 file. Raises ValueError in one line for a file that cannot be read."""
    path = Path(source)
    check_file(path)
    try:
        import h5py
    except ImportError:
        raise ValueError(
            f"{path} needs the package h5py, which is not installed: pip install h5py"
        ) from None
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise ValueError(f"{path} is not an HDF5 file, or it is damaged") from None
    with file:
        if _EPISODE in file:
            raise ValueError(
                f"{path} holds a data set of Minari: give minari: and its name in place of the file"
            )
        found: dict[str, Any] = {}
        file.visititems(lambda name, node: found.setdefault(name, node) and None)
        arrays = {
            name: node
            for name, node in found.items()
            if isinstance(node, h5py.Dataset) and node.shape
        }

        def read(name: str) -> np.ndarray:
            return _read(path, arrays[name], name)

        def size(name: str) -> int:
            # A component that is named as in a table has no size of its own.
            return int(arrays[name].nbytes) if name in arrays else 0

        yield Columns(source, tuple(arrays), read, size)


def _read(path: Path, array: Any, name: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {name} is an array of {array.dtype}; it must be one of numbers")
    try:
        return np.asarray(array[()])
    except MemoryError:
        raise ValueError(f"{path}: {name} does not fit into memory") from None
    except OSError:  # Its text is that of the C library, of several lines.
        raise ValueError(f"{path}: {name} is damaged") from None
