"""Programs that were compiled before, on disk: kernels, and how an update calls them.

A program is found by its key (`program_key`) and loaded without torch's compiler, whose import
takes longer than most runs learn.

A program is a file of its own in a folder that only this user can write to, next to the cache of
torch's compiler; libraries are files named after their contents. Files are written aside and
renamed. One that is damaged or not what its name says is not used, and written anew.
"""

import base64
import contextlib
import ctypes
import getpass
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_tdc.compiled.kernel_calls import Call, Layout, Place, Watched
from neural_tdc.compiled.kernels import Kernel
from neural_tdc.compiled.program_key import CACHE_DIR, sha256

# Keys of programs of this process that are not stored; None for those that have no key.
_MISSING: set[str | None] = set()
# Bytes of the tensors that belong to a program, up to which it is stored.
_LARGEST_CONSTANTS = 2**22


class StoredProgram(NamedTuple):
    """A program that a loop in C++ repeats.

    watched: its kernel calls
    loop:    the library with the loop over them
    """

    watched: Watched
    loop: ctypes.CDLL


def store_folder() -> Path | None:
    """Return the folder of stored programs, made if need be; None where nothing can be kept."""
    if os.name != "posix":
        return None
    root = os.environ.get(CACHE_DIR)
    if root is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"uid_{os.getuid()}"
        user = re.sub(r'[\\/:*?"<>|]', "_", user)
        root = os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")
    folder = Path(root, "neural_tdc")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    # What is loaded from here is run.
    return folder if found.st_uid == os.getuid() and not found.st_mode & 0o022 else None


def everything_stored() -> bool:
    """Return whether this process found or stored every program that it asked for."""
    return not _MISSING


def mark(key: str) -> None:
    """Keep a key alone, of a command that had all its programs; see `program_key`."""
    folder = store_folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            _write(folder / f"{key}.mark", b"")


def marked(key: str) -> bool:
    """Return whether a key was marked. It is a guess: programs may be gone since."""
    folder = store_folder()
    return folder is not None and (folder / f"{key}.mark").exists()


def store_program(key: str, program: StoredProgram | None) -> None:
    """Keep a program, or None for a function that was compiled in vain; do nothing where it fails.

    A program with large tensors of its own is not kept.
    """
    folder = store_folder()
    if folder is None:
        return
    try:
        content = None if program is None else _written(folder, program)
        text = json.dumps({"key": key, "program": content}).encode()
        _write(folder / f"{key}.json", text + b"\n" + sha256(text).encode())
        _MISSING.discard(key)
    except (OSError, ValueError):
        return


def find_program(key: str | None) -> tuple[bool, StoredProgram | None]:
    """Return whether there is an entry, and its program; None for what was compiled in vain.

    key: None for a program that is never stored
    """
    try:
        found = True, _found(key)
    except (OSError, LookupError, TypeError, ValueError, AttributeError):
        _MISSING.add(key)
        return False, None
    return found


def _found(key: str | None) -> StoredProgram | None:
    """Return a program, None for what was compiled in vain; raises where there is no whole one."""
    folder = store_folder()
    if folder is None or key is None:
        raise LookupError
    text, _, seal = (folder / f"{key}.json").read_bytes().rpartition(b"\n")
    content = json.loads(text)
    if sha256(text).encode() != seal or content["key"] != key:
        raise ValueError(f"{key} is damaged")
    program = content["program"]
    return None if program is None else _read(folder, program)


def _written(folder: Path, program: StoredProgram) -> dict[str, Any]:
    """Write a program's libraries and return the rest of it as JSON holds it."""
    watched = program.watched
    if sum(constant.nbytes for constant in watched.constants) > _LARGEST_CONSTANTS:
        raise ValueError("large tensors")
    return {
        "calls": [
            [_library(folder, call.kernel.path), call.kernel.name, call.arguments]
            for call in watched.calls
        ],
        "buffers": [[shape, stride, _name(dtype)] for shape, stride, dtype in watched.buffers],
        "constants": [_packed(constant) for constant in watched.constants],
        "outputs": watched.outputs,
        "loop": _library(folder, Path(program.loop._name)),
    }


def _read(folder: Path, content: Mapping[str, Any]) -> StoredProgram:
    libraries: dict[str, ctypes.CDLL] = {}

    def loaded(digest: str) -> ctypes.CDLL:
        if digest not in libraries:
            path = folder / f"{digest}.so"
            if sha256(path.read_bytes()) != digest:
                raise OSError(f"{path} is damaged")
            libraries[digest] = ctypes.CDLL(str(path))
        return libraries[digest]

    calls = [
        Call(Kernel(loaded(digest), name), [Place(*place) for place in arguments])
        for digest, name, arguments in content["calls"]
    ]
    buffers = [
        Layout(tuple(shape), tuple(stride), _dtype(name))
        for shape, stride, name in content["buffers"]
    ]
    constants = [_unpacked(*constant) for constant in content["constants"]]
    outputs = [Place(*place) for place in content["outputs"]]
    return StoredProgram(Watched(calls, buffers, constants, outputs), loaded(content["loop"]))


def _library(folder: Path, path: Path) -> str:
    """Keep a library and return the digest that it is found by."""
    content = path.read_bytes()
    digest = sha256(content)
    kept = folder / f"{digest}.so"
    if not (kept.is_file() and sha256(kept.read_bytes()) == digest):
        _write(kept, content)
    return digest


def _write(path: Path, content: bytes) -> None:
    """Write a file aside and rename it: who reads it meanwhile has the old one or the new one."""
    descriptor, aside = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise


def _packed(constant: Tensor) -> list[Any]:
    if not constant.is_contiguous():
        raise ValueError("a constant tensor is not contiguous")
    flat = constant.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    return [list(constant.shape), _name(constant.dtype), base64.b64encode(flat).decode()]


def _unpacked(shape: Sequence[int], name: str, content: str) -> Tensor:
    flat = bytearray(base64.b64decode(content))
    numbers = torch.frombuffer(flat, dtype=_dtype(name)) if flat else torch.empty(0)
    return numbers.to(_dtype(name)).reshape(tuple(shape)).clone()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found
