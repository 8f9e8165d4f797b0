"""Learning curves of deep Q-learning are drawn with what they are drawn of."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.runs.results.history import History
from experiments.train_dqn.figures import Curve, comparison_figure, run_figure


@pytest.fixture
def drawn(monkeypatch):
    """Return the list of the figures that were saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1]
    )
    return figures


def history():
    made = History()
    for step, score in ((100, np.nan), (200, 3.0), (300, np.nan), (400, 7.0)):
        values = {
            "return/training": step / 100,
            "evaluation/score": score,
            "evaluation/low": score - 1,
            "evaluation/high": score + 2,
        }
        made.append(step, {k: np.array([v]) for k, v in values.items()}, np.zeros(1, dtype=bool))
    return made


def test_a_run_is_drawn_with_its_evaluations_and_its_protocol(drawn, tmp_path):
    run_figure(tmp_path / "figure.png", history(), "split on Pong", {"sticky_actions": 0.25})
    (figure,) = drawn
    evaluated, training = figure.axes
    (line,) = evaluated.get_lines()
    assert line.get_xydata().tolist() == [[200, 3], [400, 7]]
    assert training.get_lines()[0].get_ydata().tolist() == [1, 2, 3, 4]
    assert "sticky actions 0.25" in figure.get_supxlabel()
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def error_bars(axes):
    """Return (marker size, x, y, low, high) of each point that is drawn with an error bar."""
    found = []
    for points, _, (bars,) in axes.containers:
        ((x, low), (_, high)) = bars.get_segments()[0]
        found.append((points.get_markersize(), x, points.get_ydata()[0], low, high))
    return found


def test_a_single_evaluation_is_a_point_with_its_interval(drawn, tmp_path):
    whole, single = history(), History()
    values = {name: whole.values(name)[1] for name in whole.names}
    single.append(200, values, np.zeros(1, dtype=bool))
    run_figure(tmp_path / "figure.png", single, "split on Pong", {})
    curve = Curve(*(np.array([each]) for each in (200.0, 3.0, 2.0, 5.0)))
    lone = curve._replace(low=np.array([np.nan]), high=np.array([np.nan]))
    curves = {"Pong": {"split": curve, "body": lone}}
    comparison_figure(tmp_path / "figure.png", curves, {}, "", seeds=2)
    run, comparison = (figure.axes[0] for figure in drawn)
    assert error_bars(run) == [(7, 200, 3, 2, 5)]
    assert error_bars(comparison) == [(7, 200, 3, 2, 5), (7, 200, 3, 3, 3)]
    assert drawn[0].axes[1].get_lines()[0].get_markersize() == 12


@pytest.mark.parametrize(("seeds", "said"), [(1, "one seed"), (4, "interquartile mean of 4 seeds")])
def test_arms_are_drawn_a_panel_a_game_with_the_random_policy(drawn, tmp_path, seeds, said):
    ends = np.array([1.0, 2.0])
    curve = Curve(np.array([10, 20]), ends + 1, ends, ends + 2)
    curves = {"Pong": {"split": curve, "body": curve}, "Qbert": {"split": curve}}
    comparison_figure(tmp_path / "figure.png", curves, {"Pong": -20.5}, "epsilon 0.05", seeds)
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["Pong", "Qbert"]
    assert [len(axes.get_lines()) for axes in figure.axes] == [3, 1]
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["split rates", "all at the body's rate", "random policy"]
    assert said in legend.get_title().get_text()
    assert "epsilon 0.05" in legend.get_title().get_text()
