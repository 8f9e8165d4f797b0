"""The reader of `.npz` files, as numpy.savez writes them; nothing is ever unpickled."""

import zipfile
from pathlib import Path

import numpy as np

from envs.logs.log import OPTIONAL, REQUIRED


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a log that are in the file; arrays of other names are left alone.

    Raises ValueError in one line for a file that cannot be read.
    """
    try:
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        if not path.is_file():
            raise ValueError(f"{path} is no file")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is no .npz file, as numpy.savez writes it")
    except OSError as error:  # Such as a name that is too long.
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in (*REQUIRED, *OPTIONAL):
                if name in stored.files:
                    arrays[name] = stored[name]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ValueError(f"{path}: {name} does not fit into memory") from None
    except Exception as error:  # A damaged archive fails in zipfile, zlib or the header's parser.
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} holds pickled objects, which are not loaded; store plain numbers"
            ) from None
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: {name or 'the file'} is damaged: {said}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: {name} is no array, as numpy.savez writes it")
    return arrays
