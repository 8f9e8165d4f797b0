"""Ctrl-C and SIGTERM, and processes that end with the one that started them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.runs.command_line.processes import (
    Terminated,
    deaf_to_stops,
    end_with_parent,
    interruptible,
    stop_status,
    terminable,
)
from experiments.runs.command_line.program import main, resumable
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CONFIG


def handlers():
    return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = handlers()
    yield
    assert handlers() == before


def test_sigterm_is_ctrl_c_with_a_status_of_its_own(capsys, tmp_path):
    write_json(tmp_path / CONFIG, configuration({}))

    def program(argv):
        with resumable("python -m program", argv, tmp_path):
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("not stopped")

    assert main(program, ["--seed", "3"]) == 143
    said = capsys.readouterr().err
    assert said == "stopped; continue with: python -m program --seed 3 --resume\n"
    assert main(lambda _: signal.raise_signal(signal.SIGTERM), []) == 143
    assert capsys.readouterr().err == "interrupted\n"
    assert stop_status(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped before anything was saved\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: No space left on device; nothing was saved; correct the cause and run the "
            "command again\n",
        ),
    ],
)
def test_a_stop_before_the_folder_holds_a_run_names_no_line_that_resumes(
    capsys, tmp_path, stop, status, said
):
    def program(argv):
        with resumable("python -m program", argv, tmp_path):
            raise stop

    assert main(program, []) == status
    assert capsys.readouterr().err == said


def test_a_process_that_was_started_to_ignore_sigterm_ignores_it():
    with deaf_to_stops(), terminable():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("first", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_stop_is_asked_for_once_and_taken_the_second_time(first, error, capsys):
    def granted():
        with interruptible() as asked:
            assert not asked()
            signal.raise_signal(first)
            assert asked()
            raise KeyboardInterrupt

    def impatient():
        with interruptible():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(first)
            raise AssertionError("not stopped")

    for work in (granted, impatient):
        with pytest.raises(KeyboardInterrupt) as caught:
            work()
        assert type(caught.value) is error
        assert capsys.readouterr().err.count("stopping after this measurement") == 1


def test_another_thread_handles_no_signals_and_runs_all_the_same():
    done = []

    def work():
        with terminable(), interruptible() as asked, deaf_to_stops():
            done.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]


def _worker(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    time.sleep(600)


def _owner(pipe):
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        context.Process(target=_worker, args=(pipe,)).start()
    time.sleep(600)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A process that has ended is there until somebody has asked for its status.
    return state != "Z"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    owner = context.Process(target=_owner, args=(theirs,))
    owner.start()
    workers = [ours.recv(), ours.recv()]
    assert all(map(is_alive, workers))
    owner.kill()
    owner.join()
    end = time.monotonic() + 20
    while any(map(is_alive, workers)):
        assert time.monotonic() < end, "a worker has outlived its parent"
        time.sleep(0.02)


def test_a_process_that_was_not_started_by_another_watches_nobody():
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before


LEAVING = """
import atexit, threading, time
from experiments.runs.command_line.processes import leave
atexit.register(print, "registered", end="")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("program")
leave(3)
"""


def test_a_process_is_left_with_its_threads_done_its_output_written_and_its_status():
    # Its output goes into a pipe, which Python writes to in blocks.
    done = subprocess.run(
        [sys.executable, "-c", LEAVING],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    said = "program\nthread\nregistered"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 3)
