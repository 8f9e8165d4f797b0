"""Files of tensors and plain values: a checksum over every byte, and no code in the file is run.

The file is what `torch.save` writes, with one line behind it that holds the checksum. `torch.load`
reads such a file too, but torch does not look at the checksums that it writes itself.
"""

import io
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import torch

from neural_tdc.messages import first_line

_SEAL = "\nneural_tdc crc32 {:08x}\n"
_SEAL_BYTES = len(_SEAL.format(0))
_CHUNK = 1 << 20


class _Checksummed:
    """A file to write to that keeps the checksum of what was written."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self.checksum = file, 0

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def save_tensors(content: Any, file: io.BufferedIOBase) -> None:
    """Write tensors, None, bool, int, float, str, and dicts, lists and tuples of these.

    Raises RuntimeError where torch's writer cannot write on, e.g. on a full disk.
    """
    checked = _Checksummed(file)
    torch.save(content, checked)  # type: ignore[arg-type]
    file.write(_SEAL.format(checked.checksum).encode("ascii"))


def _is_whole(path: Path) -> bool:
    """Return whether the checksum of a file is right."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - _SEAL_BYTES
        checksum = 0
        while left > 0 and (data := file.read(min(left, _CHUNK))):
            checksum = zlib.crc32(data, checksum)
            left -= len(data)
        return file.read() == _SEAL.format(checksum).encode("ascii")


def load_tensors(
    path: Path, form: str, what: str, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Read what `save_tensors` wrote, its tensors on `device`.

    form: what `content["format"]` must be
    what: what the file should be, for the message, such as "checkpoint of this program"
    Raises ValueError in one line for a file that is missing, damaged, another program's, or that
    carries code.
    """
    try:
        whole = _is_whole(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if not whole:
        raise ValueError(f"{path} is damaged, or is not a {what}")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is not a {what}: it holds more than tensors and plain values"
        ) from None
    except Exception as error:
        reason = first_line(error)[:100]
        raise ValueError(f"{path} cannot be read as a {what}: {reason}") from None
    if not isinstance(content, dict) or content.get("format") != form:
        raise ValueError(f"{path} is not a {what}")
    return content
