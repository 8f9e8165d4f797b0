import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from experiments.runs.results.figures import draw_histories, evaluation_figure
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.style import LINES, rule_styles

ALL = (
    "error/rmsve",
    "error/rmspbe",
    "error/lstd_rmsve",
    "tracking_error/head",
    "tracking_error/auxiliary",
    "tracking_error/auxiliary_size",
    "features/effective_rank",
)


def history(runs=4, times=6, diverged=0, names=ALL, scale=1.0, fall=1.0, seed=0):
    """A history in which the first `diverged` runs are found diverged from half-time on."""
    numbers, made = np.random.default_rng(seed), History()
    for time in range(times):
        size = scale * fall**time
        flags = (np.arange(runs) < diverged) & (2 * time >= times - 1)
        values = {name: size * numbers.uniform(1.0, 1.5, runs) for name in names}
        made.append(1000 * time, values, flags)
    return made


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def boxes_of(figure):
    """Return the boxes of all panels with their labels, the legend and the title."""
    FigureCanvasAgg(figure).draw()
    parts = [*figure.axes, figure.legends[0], figure._suptitle]
    return [part.get_tightbbox(figure.canvas.get_renderer()) for part in parts]


def overlaps(boxes):
    """Return the pairs of boxes that have common points."""
    return [
        (first, second)
        for (first, a), (second, b) in itertools.combinations(enumerate(boxes), 2)
        if a.overlaps(b)
    ]


def outside(boxes, page):
    """Return the boxes that stick out of the page, by more than rounding."""
    return [
        box
        for box in boxes
        if min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1) < -1
    ]


EIGHT = ["tdc", "td", "tdrc", "generalized", "gtd2", "htd", "semi_gradient+lstd", "ttn"]
CASES = {
    "one rule": {"tdc": history()},
    "two rules, one of which diverges in part": {"tdc": history(), "td": history(diverged=2)},
    "eight rules": {rule: history(seed=i, diverged=i) for i, rule in enumerate(EIGHT[:4])}
    | {rule: history(seed=i) for i, rule in enumerate(EIGHT[4:])},
    "all diverged": {"tdc": history(diverged=4, names=ALL[:3])},
    "one measurement": {rule: history(times=1, names=ALL[:3]) for rule in ("tdc", "td")},
    "diverged before the first measurement": {"td": history(times=1, diverged=4)},
    "one run": {"tdc": history(runs=1, names=ALL[:2])},
    "errors over many orders": {"tdc": history(fall=0.01, scale=1e4)},
    "one panel": {"tdc": history(names=ALL[:1], diverged=1)},
    "four panels": {"tdc": history(names=(*ALL[:3], ALL[-1]))},
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_overlaps_and_nothing_sticks_out(case):
    figure = draw_histories(CASES[case], "Policy evaluation on random-walk-dependent")
    boxes = boxes_of(figure)
    assert overlaps(boxes) == []
    assert outside(boxes, figure.bbox) == []


def test_panels_that_nothing_was_measured_for_are_left_out():
    assert len(titles(draw_histories({"td": history()}, "x"))) == 6
    assert titles(draw_histories({"td": history(names=ALL[:1])}, "x")) == ["Error of the values"]
    mixed = draw_histories({"td": history(names=ALL[:1]), "tdc": history(names=ALL[:2])}, "x")
    assert titles(mixed) == ["Error of the values", "Projected Bellman error"]


def test_an_error_that_is_rounding_throughout_has_no_panel():
    made = History()
    for step in (0, 100):
        values = {"error/rmsve": np.ones(3), "error/lstd_rmsve": np.full(3, 7e-16)}
        made.append(step, values, np.zeros(3, dtype=bool))
    assert titles(draw_histories({"td": made}, "x")) == ["Error of the values"]
    asked = draw_histories({"td": made}, "x", metrics=["error/lstd_rmsve"])
    assert titles(asked) == ["Error of LSTD on the features"]


def test_every_axis_has_a_name_with_its_unit():
    for axes in draw_histories({"td": history()}, "x").axes:
        assert axes.get_xlabel() == "updates"
        assert axes.get_ylabel().endswith(")")


def test_lines_are_the_means_of_the_runs_that_survive_to_the_end():
    made = history(diverged=2, names=ALL[:1])
    axes = draw_histories({"td": made}, "x").axes[0]
    expected = made.values("error/rmsve")[:, 2:].mean(axis=1)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
    assert axes.lines[0].get_xdata().tolist() == made.steps.tolist()
    (band,) = axes.collections
    heights = set(band.get_paths()[0].vertices[:, 1])
    ends = mean_interval(made.values("error/rmsve")[:, 2:], logarithm=True)
    assert heights == {*ends.low, *ends.high}
    assert axes.lines[1].get_xdata().tolist() == [3000]


def test_where_all_diverge_the_line_ends_with_a_cross():
    axes = draw_histories({"td": history(diverged=4, names=ALL[:1])}, "x").axes[0]
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert cross.get_xdata().tolist() == [2000]


def test_diverged_runs_are_counted_in_the_legend():
    counts = {"tdc": 0, "td": 3, "htd": 4}
    histories = {rule: history(diverged=n, names=ALL[:1]) for rule, n in counts.items()}
    figure = draw_histories(histories, "x")
    assert legend_labels(figure) == ["tdc", "td (3 of 4 diverged)", "htd (all 4 diverged)"]


def test_the_size_of_the_best_auxiliary_is_dashed():
    made = history(names=ALL[4:6])
    (axes,) = draw_histories({"td": made}, "x").axes
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(
        dashed.get_ydata(), made.values("tracking_error/auxiliary_size").mean(axis=1)
    )


def test_a_panel_is_logarithmic_where_its_means_span_more_than_one_scale_shows():
    scales = [axes.get_yscale() for axes in draw_histories({"td": history(fall=0.3)}, "x").axes]
    assert scales == ["log"] * 5 + ["linear"]
    near = {"td": history(names=ALL[:1])}
    assert draw_histories(near, "x").axes[0].get_yscale() == "linear"
    apart = {**near, "tdc": history(scale=100.0, names=ALL[:1])}
    (axes,) = draw_histories(apart, "x").axes
    assert axes.get_yscale() == "log"
    # Plain numbers, where powers of ten alone would leave a panel with two labels.
    assert {"0.5", "2", "20"} <= {
        axes.yaxis.get_major_formatter()(place) for place in axes.get_yticks()
    }
    zero = {"td": history(scale=0.0, names=ALL[:1])}
    assert draw_histories(zero, "x").axes[0].get_yscale() == "linear"


def test_a_reference_is_a_dotted_line_with_its_name():
    figure = draw_histories(
        {"td": history(names=ALL[:1])}, "x", references={"error/rmsve": (0.3, "truth")}
    )
    assert figure.axes[0].lines[-1].get_ydata()[0] == 0.3
    assert legend_labels(figure) == ["td", "truth"]
    assert overlaps(boxes_of(figure)) == []


def test_chosen_metrics_are_drawn_in_their_order():
    figure = draw_histories({"td": history()}, "x", metrics=["tracking_error/head", "error/rmsve"])
    assert titles(figure) == ["Tracking error of the head", "Error of the values"]


def test_a_rule_has_the_same_colour_beside_any_others():
    assert rule_styles(["td", "tdc"])["tdc"] == rule_styles(["tdc", "htd", "x"])["tdc"]


def test_no_two_rules_look_alike():
    rules = [*EIGHT, *(f"mine:rule{i}" for i in range(20))]
    assert len(set(rule_styles(rules).values())) == len(rules) < 8 * len(LINES)


def test_a_curve_of_very_many_measurements_keeps_its_ends():
    axes = draw_histories({"td": history(times=1000, names=ALL[:1])}, "x").axes[0]
    steps = axes.lines[0].get_xdata()
    assert len(steps) == 400
    assert (steps[0], steps[-1]) == (0, 999_000)


def test_the_file_is_a_picture_and_there_is_nothing_beside_it(tmp_path):
    evaluation_figure(tmp_path / "figure.png", {"td": history(names=ALL[:1])}, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
    picture = imread(tmp_path / "figure.png")
    assert picture.shape[1] > 1000
    assert 0.01 < (picture[:, :, 0] < 0.5).mean() < 0.5


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_format_follows_the_suffix(tmp_path, suffix, start):
    path = tmp_path / f"figure.{suffix}"
    evaluation_figure(path, {"td": history(names=ALL[:1])}, "x")
    assert path.read_bytes().startswith(start)


def test_a_full_disk_keeps_the_old_figure(tmp_path, monkeypatch):
    (tmp_path / "figure.png").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        evaluation_figure(tmp_path / "figure.png", {"td": history(names=ALL[:1])}, "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_vector_file_is_written_next_to_the_picture_and_its_text_stays_text(tmp_path):
    evaluation_figure(tmp_path / "figure.png", {"td": history(runs=2)}, "A title", vector="svg")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert ">A title</text>" in (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "figure.svg"}


def test_only_the_module_of_the_style_writes_figures():
    programs = Path(__file__).parents[4] / "experiments"
    writers = {path for path in programs.rglob("*.py") if ".savefig(" in path.read_text("utf-8")}
    assert writers == {programs / "runs" / "results" / "style.py"}
