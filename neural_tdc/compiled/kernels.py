"""Kernels: functions in C++ that take addresses, in libraries that were compiled and loaded."""

import ctypes
from pathlib import Path
from typing import NamedTuple


class Kernel(NamedTuple):
    """A function of a loaded library, all of whose arguments are addresses."""

    library: ctypes.CDLL
    name: str

    @property
    def path(self) -> Path:
        """Return the file of the library."""
        return Path(self.library._name)

    @property
    def address(self) -> int:
        """Return the address of the function; raises AttributeError where there is none."""
        found = ctypes.cast(getattr(self.library, self.name), ctypes.c_void_p).value
        assert found is not None
        return found
