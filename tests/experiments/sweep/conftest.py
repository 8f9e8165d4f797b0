"""A small study, run in this process."""

import shlex

import pytest
import torch

from experiments.runs.command_line.program import main
from experiments.sweep import __main__ as sweep


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Return a function that runs a study on a line of arguments, without its figures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("sensitivity_figure", "map_figure", "curves_figure", "relative_figure"):
        monkeypatch.setattr(f"experiments.sweep.figures.{name}", lambda *given: None)
    threads = torch.get_num_threads()

    def run(line):
        capsys.readouterr()
        status = main(sweep.sweep, shlex.split(line))
        said = capsys.readouterr()
        return status, said.out, said.err

    yield run
    torch.set_num_threads(threads)
