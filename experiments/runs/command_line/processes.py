"""How a program ends: by itself, by Ctrl-C and SIGTERM, between measurements, among processes."""

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a program ends as after Ctrl-C, with the exit status of this signal."""


def stop_status(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a program that was stopped: 143 after SIGTERM, else 130."""
    return 143 if isinstance(stop, Terminated) else 130


def leave(status: int) -> NoReturn:
    """End this process with an exit status, without taking its modules down object by object.

    Python's own end of a process takes more than a second where torch's compiler was imported. As
    there, threads are waited for and what was registered with `atexit` is called.
    """
    # The two steps that Python itself begins with, which have no public names.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed, or its reader gone.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def _handled(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Let signals call a handler meanwhile; nothing changes outside the main thread."""
    try:
        before = {each: signal.signal(each, handler) for each in signals}
    except ValueError:
        # Only the main thread may do so, and it is the one that receives signals.
        yield
        return
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the main thread when SIGTERM comes, unless this process ignores it."""

    def terminate(*_: Any) -> None:
        raise Terminated

    # A process that was started to ignore the signal is stopped by the one that started it.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    with _handled(terminate, signal.SIGTERM):
        yield


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether Ctrl-C or SIGTERM came; a second one stops at once.

    A KeyboardInterrupt raised inside becomes Terminated where SIGTERM came.
    """
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        print(
            "\nstopping after this measurement; Ctrl-C again stops at once, at the last checkpoint",
            file=sys.stderr,
        )

    try:
        with _handled(note, signal.SIGINT, signal.SIGTERM):
            yield lambda: bool(came)
    except KeyboardInterrupt:
        if came and came[-1] == signal.SIGTERM:
            raise Terminated from None
        raise


@contextlib.contextmanager
def deaf_to_stops() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C and SIGTERM.

    A terminal and a job's scheduler send them to all processes; the program ends its own itself.
    """
    with _handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM):
        yield


def end_with_parent() -> None:
    """Let this process end at once when the process that started it does, also by `kill -9`."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
