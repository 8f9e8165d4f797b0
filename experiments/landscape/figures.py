"""The figures of a landscape: surfaces of both objectives, and their curvature over iterations."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.runs.results.figures import draw_histories
from experiments.runs.results.history import History
from experiments.runs.results.panels import Panel
from experiments.runs.results.style import VERMILLION, save_figure, styled
from neural_tdc.stackelberg.landscape import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.axes3d import Axes3D

JOINT, FROZEN, REDUCED = r"$f(\cdot,\theta_k)$", r"$f(\cdot,\theta^*(W_k))$", r"$\Phi$"
SURFACES = {
    "joint": rf"{JOINT}: present head",
    "frozen": rf"{FROZEN}: best head for $W_k$",
    "solved": rf"{REDUCED}: best head at every point",
}
_PANELS = (
    Panel("curvature/largest", "Largest eigenvalue", "largest eigenvalue of the Hessian in $W$"),
    Panel("curvature/trace", "Trace", "trace of the Hessian in $W$"),
    Panel("train/loss", "Training loss", r"mean loss at $\theta_k$"),
)


def _draw_surface(axes: "Axes3D", landscape: Landscape, name: str, most: float) -> None:
    from matplotlib.ticker import MaxNLocator

    grid = landscape.coefficients.numpy()
    heights = getattr(landscape, name).numpy()
    first, second = np.meshgrid(grid, grid, indexing="ij")
    axes.plot_surface(
        first, second, np.minimum(heights, most), cmap="viridis", linewidth=0, antialiased=True
    )
    middle = len(grid) // 2
    axes.plot(
        [grid[middle]], [grid[middle]], [heights[middle, middle]], "o", color=VERMILLION, zorder=9
    )
    axes.set_xticks([grid[0], 0, grid[-1]])
    axes.set_yticks([grid[0], 0, grid[-1]])
    axes.zaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("a", fontsize=8, labelpad=-4)
    axes.set_ylabel("b", fontsize=8, labelpad=-4)
    axes.tick_params(labelsize=7, pad=-1)
    axes.tick_params(axis="z", pad=3)
    axes.view_init(elev=28, azim=-58)


@styled
def draw_surfaces(landscapes: Mapping[int, Landscape], title: str) -> "Figure":
    """Return the figure that `surfaces_figure` writes."""
    from matplotlib.figure import Figure

    rows = len(landscapes)
    # No constrained layout: it does not know the labels of three-dimensional axes.
    figure = Figure(figsize=(11.5, 3.3 * rows + 1.1))
    top = 1 - 0.9 / figure.get_figheight()
    figure.subplots_adjust(
        left=0.07,
        right=0.97,
        bottom=0.25 / figure.get_figheight(),
        top=top,
        wspace=0.08,
        hspace=0.1,
    )
    for row, (step, landscape) in enumerate(landscapes.items()):
        for column, name in enumerate(SURFACES):
            axes = figure.add_subplot(rows, 3, 3 * row + column + 1, projection="3d")
            _draw_surface(axes, landscape, name, float(getattr(landscape, name).max()))
            if row == 0:
                axes.set_title(SURFACES[name], pad=8)
        height = top - (row + 0.5) * (top - 0.25 / figure.get_figheight()) / rows
        figure.text(
            0.025, height, f"after {step:,} updates", rotation=90, va="center", ha="center", size=10
        )
    figure.suptitle(title)
    return figure


def surfaces_figure(
    path: Path, landscapes: Mapping[int, Landscape], title: str, vector: str | None = None
) -> None:
    """Draw the surfaces, a row an iteration and a column an objective, and write a PNG file.

    landscapes: {updates done: landscape}. The dot is the present body W_k, at a = b = 0. Every
    surface has a height axis of its own. Source: Figure 1 of arXiv 2605.15530.
    """
    figure = draw_surfaces(landscapes, title)
    save_figure(figure, path, vector)


def curvature_histories(history: History) -> dict[str, History]:
    """Return the three objectives' curvature as histories of common metrics."""
    found = {}
    for label, name in ((JOINT, "joint"), (FROZEN, "frozen"), (REDUCED, "reduced")):
        own = History()
        for index, step in enumerate(history.steps.tolist()):
            values = {
                f"curvature/{what}": history.values(f"curvature/{name}_{what}")[index]
                for what in ("largest", "trace")
            }
            loss = history.values("train/loss")[index]
            values["train/loss"] = loss if name == "joint" else np.full_like(loss, np.nan)
            own.append(step, values, np.zeros(history.runs, dtype=bool))
        found[label] = own
    return found


def curvature_figure(path: Path, history: History, title: str, vector: str | None = None) -> None:
    """Draw largest eigenvalue and trace of all Hessians over the updates, and write a PNG file.

    Source: Figure 2 of arXiv 2605.15530.
    """
    figure = draw_histories(curvature_histories(history), title, _PANELS)
    save_figure(figure, path, vector)
