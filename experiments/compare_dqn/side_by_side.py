"""Runs of deep Q-learning, or parts of a population, each in a process that keeps a log.

A run computes the same numbers as when it is alone with as many threads. Only the parent hears
Ctrl-C and SIGTERM: it asks its runs to stop after their measurement, with everything saved. When
the parent dies its runs end at once, at their last checkpoints, and free their folders.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from experiments.runs.command_line.processes import deaf_to_stops, end_with_parent
from experiments.runs.command_line.program import Stopped, main


class HasFolder(Protocol):
    """What a process works on: it has a folder, and its log lies next to it."""

    @property
    def out(self) -> Path | None:
        """Return the folder."""


_Run = TypeVar("_Run", bound=HasFolder)
# Called with a run, whether to stop after the present measurement, and how many learn at once.
_Work = Callable[..., Any]


def log_of(run: HasFolder) -> Path:
    """Return where a run's own messages go."""
    assert run.out is not None
    return run.out.with_name(run.out.name + ".log")


def _alone(work: _Work, run: HasFolder, at_once: int, stop: ctypes.c_bool) -> None:
    """Learn one run in this process; its exit status is that of a program."""
    end_with_parent()
    log = log_of(run).open("a", buffering=1, encoding="utf-8", errors="replace")
    # What is written by other languages than Python too.
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log

    def program(_: Sequence[str]) -> None:
        work(run, lambda: stop.value, at_once)

    sys.exit(main(program, []))


class _Active(NamedTuple, Generic[_Run]):
    """A process that trains a run, and how long the run's log was before."""

    process: BaseProcess
    run: _Run
    logged: int


def _failure(active: _Active) -> Stopped:
    log, status = log_of(active.run), active.process.exitcode or 0
    new = log.read_bytes()[active.logged :] if log.exists() else b""
    lines = new.decode("utf-8", errors="replace").splitlines()
    if status < 0:
        said = f"error: a run was ended by {signal.Signals(-status).name}; --resume continues it"
    else:
        said = lines[-1] if lines else f"error: a run ended with status {status}"
    return Stopped(f"{said} ({active.run.out}; see {log})", status if status in (1, 2) else 1)


def _end(active: Sequence[_Active], stop: ctypes.c_bool) -> None:
    """Let runs come to their next measurement and save; Ctrl-C ends them at once."""
    stop.value = True
    if not active:
        return
    folders = ", ".join(str(each.run.out) for each in active)
    print(
        f"\nstopping after the next measurement of {folders}; Ctrl-C stops at once, at the last "
        "checkpoint",
        file=sys.stderr,
    )
    try:
        for each in active:
            each.process.join()
    except KeyboardInterrupt:
        for each in active:
            each.process.kill()
        for each in active:
            each.process.join()


def side_by_side(
    runs: Sequence[_Run], at_once: int, begun: Callable[[_Run], None], work: _Work
) -> Generator[_Run, None, None]:
    """Learn runs in their order, up to `at_once` at a time; give each that is done.

    begun:  called with each run that begins
    work:   what a process does with its run, a function of a module

    Raises Stopped with the last line of the log of a run that failed; the others are then stopped
    after their measurement, with everything saved, as after Ctrl-C.
    """
    # Threads and a device's context do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Without a lock, which a killed process could keep.
    stop = context.RawValue(ctypes.c_bool, False)
    waiting = list(runs)
    active: dict[int, _Active[_Run]] = {}

    def fill() -> None:
        while waiting and len(active) < at_once:
            run = waiting.pop(0)
            log = log_of(run)
            log.parent.mkdir(parents=True, exist_ok=True)
            logged = log.stat().st_size if log.exists() else 0
            process = context.Process(target=_alone, args=(work, run, at_once, stop))
            with deaf_to_stops():
                process.start()
                active[process.sentinel] = _Active(process, run, logged)
            begun(run)

    try:
        fill()
        while active:
            for sentinel in wait(list(active)):
                assert isinstance(sentinel, int)
                ended = active.pop(sentinel)
                ended.process.join()
                if ended.process.exitcode:
                    raise _failure(ended)
                fill()
                yield ended.run
    finally:
        _end(list(active.values()), stop)
