"""Which figures a finished rule gets, and where they are drawn."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.evaluate_policy.results import figures


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return what draws a run of two runs, lost or not: {file: the process that drew it}."""

    def draw(path, *_, **__):
        path.write_text(str(os.getpid()))

    monkeypatch.setattr(figures, "evaluation_figure", draw)
    monkeypatch.setattr(figures, "value_figure", draw)
    monkeypatch.setattr(figures, "learned_value", lambda run: None)

    def drawn(lost, cores):
        history = SimpleNamespace(diverged=np.array(lost))
        run = SimpleNamespace(
            name="td", folder=tmp_path, task=SimpleNamespace(name="walk"), history=history
        )
        figures.draw_run(run, None, None, cores)
        return {path.name: int(path.read_text()) for path in tmp_path.iterdir()}

    return drawn


def test_both_figures_are_drawn_here_or_with_more_cores_at_once(drawn):
    here = os.getpid()
    assert drawn([True, False], 1) == {"figure.png": here, "values.png": here}
    found = drawn([True, False], 2)
    assert found["figure.png"] == here
    assert found["values.png"] != here


def test_runs_that_all_diverged_have_no_figure_of_values(drawn):
    assert drawn([True, True], 2) == {"figure.png": os.getpid()}
