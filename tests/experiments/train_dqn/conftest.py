"""The program that trains, in the tests' own process."""

import pytest

from experiments.train_dqn import __main__ as program
from experiments.train_dqn import train as dqn_train


@pytest.fixture
def train(run_program, monkeypatch):
    """Return a function that runs the program; its figure, which takes longest, is a stub."""
    monkeypatch.setattr(dqn_train, "run_figure", lambda path, *_: path.write_bytes(b"figure"))

    def run(line):
        return run_program(program.train_dqn, line)

    return run
