"""The reader of `.npz` files, as numpy.savez writes them; nothing is ever unpickled."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from envs.logs.columns import Columns


def check_file(path: Path) -> None:
    """Raise ValueError in one line where there is no such file, or what is there is none."""
    try:
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        if not path.is_file():
            raise ValueError(f"{path} is not a file")
    except OSError as error:  # Such as a name that is too long.
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def open_npz(source: str) -> Iterator[Columns]:
    """Open an .npz file. Raises ValueError in one line for a file that cannot be read."""
    path = Path(source)
    check_file(path)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is not a .npz file as written by numpy.savez")
        stored = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: the file is damaged: {error}") from None
    with stored:
        sizes = {
            info.filename.removesuffix(".npy"): info.file_size for info in stored.zip.infolist()
        }

        def read(name: str) -> np.ndarray:
            return _read(path, stored, name)

        yield Columns(source, tuple(stored.files), read, lambda name: sizes.get(name, 0))


def _read(path: Path, stored: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = stored[name]
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
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: {name} is not an array as written by numpy.savez")
    return array
