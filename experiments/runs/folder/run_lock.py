"""One process at a time works on a folder: a lock that its process's death frees, whatever ends it.

The lock is an advisory one (flock) on a small file in the folder that holds the process's number.
The file is removed with the lock; one that a killed process left behind locks nothing.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # No POSIX system: there two processes are not told apart.
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
# A process that only looks whether a folder is locked holds its lock for a moment.
ATTEMPTS, PAUSE = 5, 0.02

_descriptors: set[int] = set()


def _forget_in_child() -> None:
    """Close the locks that a forked process has received: they would outlive their owner."""
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _is_free(descriptor: int, shared: bool = False) -> bool:
    """Take the lock of an open file; False where another one has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems know no locks; a run there is better than none.
        return True
    return True


def _busy(folder: Path, descriptor: int) -> ValueError:
    number, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
    where = "" if host in ("", socket.gethostname()) else f" on {host}"
    return ValueError(
        f"--out {folder}: another process is working on it (pid {number or 'unknown'}{where}); "
        "wait until it ends or stop it, or give another folder"
    )


def check_unlocked(folder: Path) -> None:
    """Raise ValueError in one line where a process works on a folder; nothing is changed."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return
    try:
        if not _is_free(descriptor, shared=True):
            raise _busy(folder, descriptor)
    finally:
        os.close(descriptor)


def _opened(folder: Path) -> int:
    """Return the lock's file, opened and locked; ValueError where another process has it."""
    path, attempt = folder / LOCK, 0
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _is_free(descriptor):
                # Between opening and locking, its last owner may have removed the file.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                        return descriptor
            elif (attempt := attempt + 1) == ATTEMPTS:
                raise _busy(folder, descriptor)
            else:
                time.sleep(PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep all other processes out of a folder that exists.

    Raises ValueError in one line that names --out and the other process, where there is one.
    """
    descriptor, owner = _opened(folder), os.getpid()
    _descriptors.add(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{owner} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        if os.getpid() == owner:
            # While it is still locked: see `_opened`.
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
            _descriptors.discard(descriptor)
            os.close(descriptor)
