"""Ctrl-C: asked for between two measurements, and kept from processes that are not to hear it."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interruptible() -> Iterator[Any]:
    """Give a function that tells whether Ctrl-C was pressed; pressed twice it stops at once."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        print(
            "\nstopping after this measurement; Ctrl-C again stops at once, at the last checkpoint",
            file=sys.stderr,
        )

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:
        # Only the main thread may do so; elsewhere nobody presses keys.
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile not hear Ctrl-C: the program ends them itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
