"""Runs of programs within the tests' own process, or in copies of it."""

import contextlib
import gzip
import importlib
import itertools
import json
import multiprocessing
import os
import random
import shlex
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from experiments.evaluate_policy import __main__ as program
from experiments.evaluate_policy.results import figures
from experiments.runs.command_line.program import main

_numbers = itertools.count()
FIGURES = (
    "evaluate_policy.results.figures.evaluation_figure",
    "evaluate_policy.results.figures.value_figure",
    "train_supervised.__main__.evaluation_figure",
    "landscape.__main__.surfaces_figure",
    "landscape.__main__.curvature_figure",
    "train_dqn.train.run_figure",
    "compare_dqn.run.comparison_figure",
    "convergence.run.draw_convergence",
    "two_step.run.draw_two_step",
    "sweep.results.figures.sensitivity_figure",
    "sweep.results.figures.map_figure",
    "sweep.results.figures.curves_figure",
    "sweep.report.relative_figure",
)


class Outcome(NamedTuple):
    """How a program ended: its exit status, and the lines on the screen."""

    status: int
    out: str
    error: str

    @property
    def lines(self):
        return self.error.splitlines()


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Return a function that runs the program on a line of arguments, in a folder of its own.

    A figure takes longer than all the rest of a tiny run: it is a stub unless `figure` is True.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    threads = torch.get_num_threads()
    drawn, drawn_values = figures.evaluation_figure, figures.value_figure

    def stub(path, histories, title, *_, **__):
        path.write_text(" ".join([title, *histories]))

    def stub_values(path, value, task, title, *_, **__):
        path.write_text(title)

    def run(line, figure=False):
        monkeypatch.setattr(figures, "evaluation_figure", drawn if figure else stub)
        monkeypatch.setattr(figures, "value_figure", drawn_values if figure else stub_values)
        capsys.readouterr()
        status = main(program.evaluate_policy, shlex.split(line))
        return Outcome(status, *capsys.readouterr())

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def run_program(tmp_path, monkeypatch, capsys):
    """Return a function that runs any program on a line of arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(function, line):
        capsys.readouterr()
        status = main(function, shlex.split(line))
        return Outcome(status, *capsys.readouterr())

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def no_figures(monkeypatch):
    """Draw nothing: figures take longer than all the rest of a tiny run."""
    for name in FIGURES:
        monkeypatch.setattr(f"experiments.{name}", lambda *_, **__: None)


@pytest.fixture
def refused(run_program, tmp_path):
    """Return a function that asserts that a program refuses a line, says why, and changes nothing.

    What it says is one line, which begins with `said`.
    """

    def files():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    def check(function, line, said):
        before = files()
        outcome = run_program(function, line)
        assert outcome.status == 2
        assert outcome.error.startswith(f"error: {said}"), outcome.error
        assert outcome.error.count("\n") == 1
        assert files() == before

    return check


class Fork(NamedTuple):
    """A copy of the tests' process at work, in a session of its own, and what it prints."""

    pid: int
    out: Path
    error: Path

    def end(self, seconds=60):
        """Wait for its end; a negative status is the signal that ended it."""
        _wait_for(
            lambda: os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), seconds
        )
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return Outcome(status, self.out.read_text(), self.error.read_text())


def _wait_for(condition, seconds=120):
    """Return once a condition holds; fail where it takes longer than anything may."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def wait_for():
    """Return a function that returns once a condition holds."""
    return _wait_for


def _run_forked(out, error, function, arguments):
    """Run a function in a child and end it with the status that the function returns."""
    status = 99
    try:
        os.setsid()
        for descriptor, path in ((1, out), (2, error)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w") for descriptor in (1, 2))
        # A program that was started in the background would ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = function(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@pytest.fixture
def fork(tmp_path):
    """Return a function that runs a function, which returns an exit status, in a forked process.

    A fresh interpreter would take seconds of imports. All that was started ends with the test.
    """
    if not hasattr(os, "fork"):
        pytest.skip("needs POSIX processes")
    started = []

    def run(function, *arguments):
        paths = [tmp_path / f"fork-{len(started)}.{kind}" for kind in ("out", "error")]
        pid = os.fork()
        if not pid:
            _run_forked(*paths, function, arguments)
        started.append(pid)
        return Fork(pid, *paths)

    yield run
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.fixture
def forked_workers(monkeypatch):
    """Let processes that a program starts be copies of it: what is patched is patched in them."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: context)


@pytest.fixture
def kill_trial(fork, tmp_path, monkeypatch):
    """Return a function that runs a trial of `kill -9` by its file's name; what it found."""
    for name in ("evaluate_policy.results.figures", "train_supervised.__main__"):
        monkeypatch.setattr(f"experiments.{name}.evaluation_figure", lambda *_, **__: None)
    monkeypatch.setattr(figures, "value_figure", lambda *_, **__: None)

    def trial(name, kills):
        sys.path.insert(0, str(Path(__file__).parent))
        torch.set_num_threads(1)
        module = importlib.import_module(name)
        print(json.dumps(module.trial(tmp_path, kills, random.Random(1))))
        return 0

    def run(name, kills):
        done = fork(trial, name, kills).end(300)
        assert done.status == 0, done.error[-2000:]
        return json.loads(done.out.splitlines()[-1])

    return run


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module of the user's own and returns its name."""

    def write(source):
        # A module is imported once: every test needs a name of its own.
        name = f"own_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(
            "import gymnasium\nimport neural_tdc\nimport torch\n" + source
        )
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@pytest.fixture
def write_clock(tmp_path):
    """Return a function that writes a log `clock.npz`: episodes count down from 12, reward 1."""

    def write(episodes):
        left = np.tile(np.arange(12, 0, -1), episodes).astype(np.float32)
        np.savez(
            tmp_path / "clock.npz",
            observation=np.stack([left, np.ones_like(left)], 1),
            action=np.zeros(len(left), dtype=np.int64),
            reward=np.ones(len(left)),
            terminated=left == 1,
            truncated=np.zeros(len(left), dtype=bool),
        )

    return write


@pytest.fixture
def clock_log(write_clock):
    """Write thirty episodes of that log."""
    write_clock(episodes=30)


@pytest.fixture
def idx_bytes():
    """Return a function that lays an array out as an IDX file of unsigned bytes."""

    def laid_out(array):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        return header + array.astype(np.uint8).tobytes()

    return laid_out


@pytest.fixture
def idx_files(idx_bytes):
    """Return a function that writes tiny MNIST files, 7 and 4 pictures of 3×5 pixels.

    It returns pictures, flat, and labels of the training and the test part.
    """

    def write(folder, compressed=False, seed=0):
        folder.mkdir(parents=True, exist_ok=True)
        source = np.random.default_rng(seed)
        parts = []
        for name, count in (("train", 7), ("t10k", 4)):
            pictures = source.integers(256, size=(count, 3, 5))
            labels = source.integers(10, size=count)
            for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
                content = idx_bytes(array)
                path = folder / f"{name}-{kind}-ubyte{'.gz' * compressed}"
                path.write_bytes(gzip.compress(content) if compressed else content)
            parts.append((pictures.reshape(count, 15), labels))
        return parts

    return write
