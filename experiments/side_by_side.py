"""Runs of deep Q-learning side by side, each in a process of its own, which keeps a log.

A run computes the same numbers as when it is alone with as many threads. Ctrl-C is the parent's:
it asks its runs to stop after their measurement, with everything saved. Where the parent dies its
runs end at once, at their last checkpoints: nobody else may begin to write into their folders.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from experiments.command_line import Stopped, main
from experiments.dqn_settings import Settings
from experiments.train_dqn import train


def log_of(run: Settings) -> Path:
    """Return where a run's own messages go."""
    assert run.out is not None
    return run.out.with_name(run.out.name + ".log")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _alone(run: Settings, at_once: int, stop: Event) -> None:
    """Train one run in this process; its exit status is that of a program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(log_of(run), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())

    def program(_: Sequence[str]) -> None:
        train(run, stop.is_set, at_once)

    sys.exit(main(program, []))


def _failure(run: Settings, status: int | None) -> Stopped:
    lines = log_of(run).read_text(encoding="utf-8", errors="replace").splitlines()
    said = lines[-1] if lines else f"it ended with status {status}"
    return Stopped(f"{said} ({run.out}; see {log_of(run)})", status if status in (1, 2) else 1)


def _stopped(processes: Sequence[BaseProcess], stop: Event) -> None:
    """Let runs come to their next measurement and save; Ctrl-C ends them at once."""
    stop.set()
    if processes:
        print(
            "\nstopping after the measurement of each run; Ctrl-C again stops them at once, "
            "at the last checkpoint",
            file=sys.stderr,
        )
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        raise


def side_by_side(
    runs: Sequence[Settings], at_once: int, begun: Callable[[Settings], None]
) -> Generator[Settings, None, None]:
    """Train runs in their order, up to `at_once` at a time; give each that is done.

    begun:  called with each run that begins

    Raises Stopped with the last line of the log of a run that failed; the others are then stopped
    after their measurement, with everything saved, as after Ctrl-C.
    """
    # Threads and a device's context do not survive a fork.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    waiting = list(runs)
    active: dict[int, tuple[BaseProcess, Settings]] = {}
    try:
        while waiting or active:
            while waiting and len(active) < at_once:
                run = waiting.pop(0)
                log_of(run).parent.mkdir(parents=True, exist_ok=True)
                process = context.Process(target=_alone, args=(run, at_once, stop))
                process.start()
                active[process.sentinel] = (process, run)
                begun(run)
            for sentinel in wait(list(active)):
                assert isinstance(sentinel, int)
                ended, run = active.pop(sentinel)
                ended.join()
                if ended.exitcode:
                    raise _failure(run, ended.exitcode)
                yield run
    finally:
        _stopped([process for process, _ in active.values()], stop)
