"""Files written whole or not at all, and JSON that anybody can read.

A file is written aside, brought to the disk and then renamed, so that a reader sees the old file
or the new one, and a full disk leaves the old one as it was.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PARTIAL_SUFFIX = ".partial"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the path of a file to write; it replaces `path` when the block ends without an error."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            # The name that the user knows; a full disk gives none.
            error.filename = str(path)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; OSError where it cannot be."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 whole or not at all; OSError where it cannot be."""
    write_bytes(path, text.encode("utf-8"))


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return what tells files from others of the same names: the SHA-256 of their contents."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def json_value(value: Any) -> Any:
    """Return a value as JSON holds it: NaN and infinity as null, anything unknown as its text."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    # Arrays and tensors, without importing the packages they are of.
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole or not at all; see `json_value` for what becomes of which value."""
    write_text(path, json.dumps(json_value(data), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; ValueError in one line where the file is missing or damaged."""
    try:
        # Some editors begin a file with a byte order mark.
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
