"""A small study, run in this process, and a finished one of which every test may have a copy."""

import contextlib
import io
import shlex
import shutil

import pytest
import torch

from experiments.runs.command_line.program import main
from experiments.sweep import __main__ as sweep
from tests.experiments.sweep.small_study import LINE


def _draw_nothing(patch):
    for name in ("sensitivity_figure", "map_figure", "curves_figure"):
        patch.setattr(f"experiments.sweep.results.figures.{name}", lambda *_, **__: None)
    patch.setattr("experiments.sweep.report.relative_figure", lambda *_, **__: None)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.chdir(folder)
        _draw_nothing(patch)
        assert main(sweep.sweep, shlex.split(f"{LINE} --fresh-runs 0 --out s")) == 0
    return folder / "s"


@pytest.fixture
def finished(_finished, tmp_path):
    """Return the folder `s` of a finished study LINE without fresh runs, a copy of one's own."""
    return shutil.copytree(_finished, tmp_path / "s")


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Return a function that runs a study on a line of arguments, without its figures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    _draw_nothing(monkeypatch)
    threads = torch.get_num_threads()

    def run(line):
        capsys.readouterr()
        status = main(sweep.sweep, shlex.split(line))
        said = capsys.readouterr()
        return status, said.out, said.err

    yield run
    torch.set_num_threads(threads)
