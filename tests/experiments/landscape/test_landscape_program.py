"""Surfaces and curvature of both objectives: what is drawn, said and kept."""

import json

import numpy as np
import pytest
import torch

from experiments.landscape import __main__ as program
from experiments.landscape.figures import curvature_histories, draw_surfaces
from experiments.runs.results.history import History, read
from experiments.runs.results.progress import Progress
from neural_tdc.stackelberg.landscape import Landscape

LINE = (
    "--runs 2 --steps 12 --measure-every 4 --at 0 8 12 --grid 3 --hidden 4 --batch 3 "
    "--curvature-products 3 --curvature-samples 30 --compile off --dtype float64"
)


@pytest.fixture
def draw(run_program, monkeypatch):
    """Return a function that runs the program; figures are stubs unless `figures` is True."""
    drawn = program.surfaces_figure, program.curvature_figure

    def run(line, figures=False):
        surfaces, curvature = drawn if figures else [lambda path, *_: path.write_text("")] * 2
        monkeypatch.setattr(program, "surfaces_figure", surfaces)
        monkeypatch.setattr(program, "curvature_figure", curvature)
        return run_program(program.draw_landscape, line)

    return run


def surfaces(folder):
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    return content["state"]["extra"]["surfaces"]


def test_surfaces_and_curvature_are_drawn_and_said(draw, tmp_path):
    outcome = draw(f"{LINE} --out run", figures=True)
    assert outcome.status == 0, outcome.error
    for name in ("figure.png", "curvature.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG\r\n")
    lines = outcome.out.splitlines()
    assert [line.partition(":")[0] for line in lines[:6:2]] == [
        f"after {step} updates, largest eigenvalue" for step in (0, 8, 12)
    ]
    assert lines[1].startswith("after 0 updates, trace: f(·, θ_k) ")
    assert "of 4 measured iterations" in lines[6] or "no measured iteration" in lines[6]
    history = read(tmp_path / "run" / "metrics.csv")
    assert np.isfinite(history.values("curvature/reduced_largest")).all()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["at"] == [0, 8, 12]


def test_the_surfaces_meet_where_they_must(draw, tmp_path):
    assert draw(f"{LINE} --out run").status == 0
    kept = surfaces(tmp_path / "run")
    assert list(kept) == [0, 8, 12]
    for each in kept.values():
        joint, frozen, solved = (each[name] for name in ("joint", "frozen", "solved"))
        assert joint.shape == (3, 3)
        # At the body itself an answer is an answer; elsewhere one to the point itself is better.
        assert frozen[1, 1].item() == pytest.approx(solved[1, 1].item(), rel=1e-9)
        assert joint[1, 1] > solved[1, 1]
        assert bool((solved <= frozen + 1e-12).all())
    assert not torch.equal(kept[0]["joint"], kept[8]["joint"])


def test_a_stopped_landscape_that_is_resumed_keeps_what_it_has_drawn(draw, tmp_path, monkeypatch):
    assert draw(f"{LINE} --out whole").status == 0
    calls = []
    update = Progress.update

    def pressed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", pressed)
        stopped = draw(f"{LINE} --out parts")
    assert stopped.status == 130
    assert stopped.lines[-1].startswith("stopped; continue with: python -m experiments.landscape")
    assert draw(f"{LINE} --out parts --resume").status == 0
    one, other = (surfaces(tmp_path / out) for out in ("whole", "parts"))
    assert one.keys() == other.keys()
    for step in one:
        assert all(torch.equal(one[step][name], other[step][name]) for name in one[step])


def test_sharpness_counts_the_seeds_in_which_the_reduced_objective_is_above():
    history = History()
    for step, reduced in ((0, [3.0, 4.0, np.nan]), (5, [0.5, 4.0, np.nan]), (9, [0.1, 0.2, 0.3])):
        values = {"train/loss": np.zeros(3)}
        for what in ("largest", "trace"):
            values[f"curvature/joint_{what}"] = np.ones(3)
            values[f"curvature/frozen_{what}"] = np.full(3, 2.0)
            values[f"curvature/reduced_{what}"] = np.array(reduced)
        history.append(step, values, np.zeros(3, dtype=bool))
    first, _, second, trace = program.sharpness(history, [0, 5])
    assert first.startswith("after 0 updates, largest eigenvalue: f(·, θ_k) 1.000")
    assert "f(·, θ*(W_k)) 2.000" in first
    assert first.endswith("Φ above f(·, θ_k) in 2 of 2 seeds")
    assert second.endswith("Φ above f(·, θ_k) in 1 of 2 seeds")
    assert trace.startswith("after 5 updates, trace: ")
    # One of two is not most.
    assert program.turning_point(history).endswith("at 1 of 3 measured iterations: 0")
    joint, frozen, solved = curvature_histories(history).values()
    assert joint.values("curvature/largest").tolist() == [[1.0] * 3] * 3
    assert frozen.last("curvature/largest").tolist() == [2.0] * 3
    assert solved.last("curvature/trace").tolist() == [0.1, 0.2, 0.3]


def test_a_figure_has_a_row_an_iteration_and_a_column_an_objective():
    grid = torch.linspace(-1, 1, 3)
    height = grid[:, None] ** 2 + grid**2
    landscapes = {step: Landscape(grid, height, height, height) for step in (0, 30)}
    figure = draw_surfaces(landscapes, "a title")
    assert len(figure.axes) == 6
    assert [axes.get_title() != "" for axes in figure.axes] == [True] * 3 + [False] * 3
    assert {text.get_text() for text in figure.texts} >= {"after 0 updates", "after 30 updates"}
