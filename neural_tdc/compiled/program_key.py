"""The key that a compiled program is found by: all that the compiler reads.

It holds the fingerprint of the function, the settings and variables of the compilers, the versions
of Python, torch and this package's compiled part, the C++ compiler and the processor.
"""

import functools
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neural_tdc.compiled.private_compiler import changed_settings

# Variables of the environment that the compilers read, by their beginnings; where torch's cache
# lies says nothing of a program.
_VARIABLES = ("TORCH", "ATEN_", "CXX", "CPP", "CC", "CFLAGS", "LDFLAGS", "CPATH", "CPLUS_", "GCC_")
CACHE_DIR, NO_CACHES = "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_FORCE_DISABLE_CACHES"


def program_key(function: str, settings: Mapping[str, Any]) -> str | None:
    """Return the key of a program, or None where nothing is stored.

    function: see `neural_tdc.compiled.fingerprint`; settings: of torch's compiler, for the program
    """
    sources = _sources()
    if sources is None or os.environ.get(NO_CACHES) == "1":
        return None
    return sha256(repr((function, sorted(settings.items()), sources, _surroundings())).encode())


def _surroundings() -> list[Any]:
    """Return all that a program depends on besides its function and settings."""
    variables = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(_VARIABLES) and name != CACHE_DIR
    )
    return [
        *(torch.__version__, torch.version.git_version, torch.__file__, sys.version),
        *(platform.platform(), _processor(), _cxx(), variables),
        changed_settings(),
        *(torch.get_num_threads(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu")),
        *(torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    said = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
    return sha256("\n".join(sorted({line for line in lines if line.startswith(said)})).encode())


def _cxx() -> list[Any]:
    """Return which files the names of C++ compilers lead to, and their sizes and times."""
    found = []
    for name in ("g++", "clang++", "c++", os.environ.get("CXX", "").split(" ")[0]):
        path = name and shutil.which(name)
        if path:
            real = os.stat(path)
            found.append((os.path.realpath(path), real.st_size, real.st_mtime_ns))
    return found


@functools.cache
def _sources() -> str | None:
    """Return a digest of this package, which makes the programs; None where it cannot be read."""
    try:
        paths = sorted(Path(__file__).parent.glob("*.py"))
        return sha256(b"\0".join(path.read_bytes() for path in paths)) if paths else None
    except OSError:
        return None


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, 64 digits."""
    return hashlib.sha256(content).hexdigest()
