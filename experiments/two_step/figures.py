"""The figure of `experiments.two_step`: maps, windows, closed forms next to simulation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs.results.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    VERMILLION,
    save_figure,
    styled,
)
from experiments.two_step.study import LAYERS, SMALL_WIDTH, STEPS, loss_map, window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {2: "two layers", 3: "three layers"}
UNITS = {2: "h²", 3: "h"}
COUNTS = {1: "one step", 2: "two steps"}


def _plain(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _draw_map(figure: "Figure", axes: "Axes", layers: int, steps: int, width: int) -> None:
    from matplotlib.colors import LogNorm

    found = loss_map(layers, steps, width)
    edges = found.rates.numpy()
    loss = found.loss.numpy().T
    mesh = axes.pcolormesh(
        edges, edges, loss, norm=LogNorm(loss.min(), min(loss.max(), 10.0)), cmap="viridis_r",
        shading="nearest", rasterized=True,
    )  # fmt: skip
    levels = float(loss.min()) * np.array([1.5, 3.0, 10.0])
    axes.contour(edges, edges, loss, levels, colors="white", linewidths=0.7)
    axes.plot([0, 1.2], [0, 1.2], ":", color="white", linewidth=1.0)
    first, second, _ = found.best()
    for place in {(first, second), (second, first)}:
        axes.plot(*place, "*", color=VERMILLION, markersize=11, markeredgecolor="white",
                  clip_on=False)  # fmt: skip
    axes.set_aspect("equal")
    figure.colorbar(mesh, ax=axes, shrink=0.85, extend="max").ax.tick_params(labelsize=8)
    name = UNITS[layers]
    _plain(axes, f"{WORDS[layers]}, {COUNTS[steps]}: test loss", f"$e_1$ / {name}",
           f"$e_2$ / {name}")  # fmt: skip


def _draw_window(figure: "Figure", axes: "Axes", layers: int) -> None:
    found = window(layers)
    widths, totals = np.array(found.widths), found.totals.numpy()
    share = found.share.numpy().T
    mesh = axes.pcolormesh(
        widths, totals, share, vmin=0, vmax=0.5, cmap="cividis", shading="nearest", rasterized=True
    )
    axes.contour(widths, totals, (share == 0.5).astype(float), [0.5], colors="white",
                 linewidths=1.0)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 0.6)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.85)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of one layer; ½: equal rates", fontsize=8)
    _plain(axes, f"{WORDS[layers]}, two steps: best share", "width h",
           f"$(e_1+e_2)$ / {UNITS[layers]}")  # fmt: skip


def _draw_lines(axes: "Axes", rows: Sequence[Mapping[str, Any]], layers: int, most: float) -> None:
    chosen = [row for row in rows if (row["layers"], row["steps"]) == (layers, 2)]
    totals = sorted({row["sum"] for row in chosen})
    for colour, total in zip(COLOURS, totals):
        line = [row for row in chosen if row["sum"] == total]
        shares = np.array([row["share"] for row in line])
        closed = np.array([row["closed_form"] for row in line])
        axes.plot(shares, closed - closed[-1], color=colour, linewidth=1.4,
                  label=f"sum {total:g}")  # fmt: skip
        for kind, marker, move in (("signal", "o", -0.006), ("exact", "x", 0.006)):
            name = f"{kind}_minus_equal"
            mean, low, high = (
                np.array([row[name + end] for row in line]) for end in ("", "_low", "_high")
            )
            axes.errorbar(shares + move, mean, np.stack([mean - low, high - mean]), fmt=marker,
                          color=colour, markersize=4, linewidth=1, fillstyle="none")  # fmt: skip
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(-most, most)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axes, f"{WORDS[layers]}, two steps: closed form and simulation", "share of one layer",
           "loss − loss at equal rates")  # fmt: skip


def _draw_published(axes: "Axes", rows: Sequence[Mapping[str, Any]], layers: int) -> None:
    sums = np.array([row["sum"] for row in rows])
    for key, colour, line in (("full", BLUE, "-"), ("published", VERMILLION, "--")):
        label = "full form" if key == "full" else "published form"
        axes.plot(sums, [row[key] for row in rows], line, color=colour, linewidth=1.4, label=label)
    mean, low, high = (
        np.array([row["signal" + end] for row in rows]) for end in ("", "_low", "_high")
    )
    axes.errorbar(sums, mean, np.stack([mean - low, high - mean]), fmt="o", color=GREY,
                  markersize=3.5, linewidth=1, label="simulated signal part")  # fmt: skip
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.legend()
    _plain(axes, f"{WORDS[layers]}, one step, h = {SMALL_WIDTH}",
           f"$(e_1+e_2)$ / {UNITS[layers]}, equal rates", "test loss")  # fmt: skip


def _draw_error(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    styles = {
        (2, 1): (BLUE, "--"),
        (2, 2): (BLUE, "-"),
        (3, 1): (GREEN, "--"),
        (3, 2): (GREEN, "-"),
    }
    for (layers, steps), (colour, line) in styles.items():
        chosen = [
            row
            for row in rows
            if (row["layers"], row["steps"], row["share"]) == (layers, steps, 0.5)
        ]
        axes.plot(
            [row["sum"] for row in chosen],
            [abs(row["exact"] - row["closed_form"]) for row in chosen],
            line, color=colour, marker="o", markersize=3, linewidth=1.4,
            label=f"{WORDS[layers]}, {COUNTS[steps]}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    sums = sorted({row["sum"] for row in rows})
    axes.set_xticks(sums, [f"{total:g}" for total in sums])
    axes.minorticks_off()
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.legend()
    _plain(axes, "Error without the network's own output", "$(e_1+e_2)$ / unit, equal rates",
           "|exact − closed form|")  # fmt: skip


def _draw_optima(axes: "Axes", optima: Mapping[str, Mapping[str, Any]]) -> None:
    kinds = (("alone", VERMILLION, "one layer alone"), ("equal", BLUE, "equal rates"),
             ("free", GREEN, "both free"))  # fmt: skip
    for index, (kind, colour, label) in enumerate(kinds):
        entries = [entry[kind] for entry in optima.values()]
        mean, low, high = (
            np.array([entry[key] for entry in entries]) for key in ("mean", "low", "high")
        )
        places = np.arange(len(entries)) + 0.26 * (index - 1)
        axes.bar(places, mean, 0.24, yerr=np.stack([mean - low, high - mean]), color=colour,
                 label=label, error_kw={"linewidth": 1})  # fmt: skip
        for place in places[mean < 0.005]:
            axes.annotate("0", (place, 0.01), color=colour, fontsize=9, ha="center")
    axes.set_xticks(range(len(optima)), [name.replace(", ", "\n") for name in optima])
    axes.set_ylim(0, 1.0)
    axes.legend(loc="upper right")
    _plain(axes, "Best single exact step", "", "training loss after / before the step")


@styled
def draw_two_step(
    path: Path,
    width: int,
    lines: Sequence[Mapping[str, Any]],
    published: Mapping[int, Sequence[Mapping[str, Any]]],
    optima: Mapping[str, Mapping[str, Any]],
    vector: str | None = None,
) -> None:
    """Write the figure; lines, published, optima: as `experiments.two_step.study` gives them."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(15.6, 10.8), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    grid = figure.add_gridspec(3, 4)
    for row, layers in enumerate(LAYERS):
        for column, steps in enumerate(STEPS):
            _draw_map(figure, figure.add_subplot(grid[row, column]), layers, steps, width)
        _draw_window(figure, figure.add_subplot(grid[row, 2]), layers)
        _draw_lines(figure.add_subplot(grid[row, 3]), lines, layers, most=1.0)
        _draw_published(figure.add_subplot(grid[2, row]), published[layers], layers)
    _draw_error(figure.add_subplot(grid[2, 2]), lines)
    _draw_optima(figure.add_subplot(grid[2, 3]), optima)
    figure.suptitle(
        f"Linear networks of width {width} (maps, lines): ★ least loss of the closed form; lines: "
        "closed forms; ○ simulated signal part, × exact gradient, bars: 95 % intervals over draws",
        fontsize=11,
    )
    save_figure(figure, path, vector)
