"""Runs of `experiments.evaluate_policy` within the tests' own process."""

import gzip
import itertools
import json
import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from experiments.evaluate_policy import __main__ as program
from experiments.runs.command_line import main

_numbers = itertools.count()


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
    drawn = program.evaluation_figure

    def stub(path, histories, title):
        path.write_text(" ".join([title, *histories]))

    def run(line, figure=False):
        monkeypatch.setattr(program, "evaluation_figure", drawn if figure else stub)
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


@pytest.fixture
def kill_trial(tmp_path):
    """Return a function that runs a trial of `kill -9` by its file's name; what it found."""
    if not hasattr(os, "fork"):
        pytest.skip("the trial forks its runs")

    def run(name, kills):
        command = [sys.executable, str(Path(__file__).with_name(name)), str(tmp_path), str(kills)]
        done = subprocess.run([*command, "1"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

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
