"""Runs of `experiments.evaluate_policy` within the tests' own process."""

import itertools
import shlex
import sys
from typing import NamedTuple

import pytest
import torch

from experiments import evaluate_policy as program
from experiments.command_line import main

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
def own(tmp_path, monkeypatch):
    """Return a function that writes a module of the user's own and returns its name."""

    def write(source):
        # A module is imported once: every test needs a name of its own.
        name = f"own_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text("import gymnasium\nimport torch\n" + source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write
