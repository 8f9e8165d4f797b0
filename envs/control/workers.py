"""Independent parts of one piece of work, each in a process of its own."""

import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from neural_tdc.one_thread import one_thread

# Steps of an environment below which a process is not worth its start.
_WORTH = 5_000
# Seconds between two looks at parts that all work in other processes.
_WATCHED = 0.1


def worker_count(steps: int, workers: int | None = None) -> int:
    """Return the number of processes for so many steps of environments, this one included.

    workers: as many if they can be forked here; None: one per thread of torch, for enough steps
    """
    # A child of a forked process with a GPU in use cannot reach the GPU.
    forkable = sys.platform == "linux" and not torch.cuda.is_initialized()
    if not forkable or multiprocessing.current_process().daemon:
        return 1
    if workers is not None:
        return workers
    return torch.get_num_threads() if steps >= _WORTH else 1


def equal_parts(count: int, parts: int) -> list[slice]:
    """Return slices that cut `count` things into at most `parts` parts of nearly equal size."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round().astype(int).tolist()
    return [slice(begin, end) for begin, end in pairwise(bounds)]


def shared_array(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return an array of zeros that forked processes write into for all to see."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(1, size)), dtype, int(np.prod(shape))).reshape(shape)


def in_parallel(
    parts: Sequence[Callable[[], Any]], watch: Callable[[], object] | None = None
) -> list[Any]:
    """Call all parts at once, the first one here and each other one in a forked process.

    watch: the first part is then in a forked process too, and this is called here, once and then
        ten times a second until all are done

    Returns what they return, in order, and raises what the first failing part raises. All work on
    one thread, so that the number of processes changes no bit.
    """
    context = multiprocessing.get_context("fork")
    children: list[tuple[Any, Connection]] = []
    try:
        with one_thread():
            for part in parts if watch else parts[1:]:
                receiver, sender = context.Pipe(duplex=False)
                child = context.Process(target=_answer, args=(part, sender), daemon=True)
                child.start()
                sender.close()
                children.append((child, receiver))
            answers = []
            if watch is None:
                answers.append(parts[0]())
            else:
                watch()
            for child, receiver in children:
                while watch is not None and not receiver.poll(_WATCHED):
                    watch()
                answers.append(_received(child, receiver))
    finally:
        for child, receiver in children:
            # One that has answered is gone already.
            child.kill()
            child.join()
            receiver.close()
    return answers


def progress_from_elsewhere(
    progress: Callable[[int], None] | None, meanwhile: Callable[[], object]
) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what a part elsewhere calls with its progress, and the watch for `in_parallel`.

    The watch calls `meanwhile` the first time, and after that `progress` with the latest number.
    """
    done = shared_array((1,), np.int64)
    begun = False

    def on_collected(number: int) -> None:
        done[0] = number

    def watch() -> None:
        nonlocal begun
        if not begun:
            begun = True
            meanwhile()
        elif progress is not None:
            progress(int(done[0]))

    return on_collected, watch


def _answer(part: Callable[[], Any], sender: Connection) -> None:
    """Call the part in this child and send what it returns, or the exception that it raises."""
    # A terminal sends Ctrl-C to all processes; the parent ends this one itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    answer: tuple[Any, Exception | None]
    try:
        answer = part(), None
    except Exception as error:  # an environment or a policy of the user's can raise anything
        answer = None, error
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            sender.send(answer)
            return
        answer = None, RuntimeError(f"{type(error).__name__}: {error}")
    sender.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _received(child: Any, receiver: Connection) -> Any:
    try:
        answer, error = receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(
            f"a process at work died with the status {child.exitcode}, probably because there was "
            "too little memory"
        ) from None
    if error is not None:
        raise error
    return answer
