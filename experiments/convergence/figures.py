"""The figure of `experiments.convergence`: errors over updates, and what the instances are like."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.convergence import relu_kink
from experiments.convergence.descents import QUANTITIES, SCHEDULES
from experiments.convergence.structure import RIDGE, reduced_values, scalar_curves
from experiments.convergence.tables import PROMISED
from experiments.runs.results.figures import BAND_RESAMPLES
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.style import BLUE, GREEN, GREY, VERMILLION, save_figure, styled
from neural_tdc.randomness import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEDULE_COLOURS = dict(zip(SCHEDULES, (BLUE, VERMILLION, GREEN)))
LABELS = {
    "theorem-3.6": "steps (3/5, 2/5) of Theorem 3.6",
    "theorem-3.7": "steps (1, 2/3) of Theorem 3.7",
    "uniform": "uniform steps (1, 1)",
}
TITLES = {
    "scalar": "Lemma 4.1",
    "regression": "smooth regression",
    "chain": "chain, Algorithm 1, ridge on θ",
}
AXES = {
    "moreau": r"$\|\nabla\Phi_\tau(W)\|^2$",
    "body": r"$\|W-W^*\|^2$",
    "head": r"$\|\theta-\theta^*(W)\|^2$",
}


def _plain(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True)


def _draw_errors(
    axes: "Axes",
    history: History,
    instance: str,
    quantity: str,
    slopes: Mapping[str, Mapping[str, Any]],
    fit_from: int,
) -> None:
    steps = history.steps
    fitted = steps >= fit_from
    for place, (schedule, colour) in enumerate(SCHEDULE_COLOURS.items()):
        interval = mean_interval(
            history.values(f"{instance}/{schedule}/{quantity}"), BAND_RESAMPLES
        )
        axes.plot(steps, interval.mean, color=colour, linewidth=1.5)
        axes.fill_between(steps, interval.low, interval.high, color=colour, alpha=0.18, linewidth=0)
        slope = slopes[schedule][quantity]["mean"]
        axes.annotate(
            f"slope {slope:.2f}",
            (0.03, 0.05 + 0.08 * place),
            xycoords="axes fraction",
            color=colour,
            fontsize=8,
        )
        promised = PROMISED.get((schedule, quantity))
        if promised is not None:
            start = interval.mean[fitted][0]
            line = 2.5 * start * (steps[fitted] / steps[fitted][0]) ** promised
            axes.plot(steps[fitted], line, "--", color=colour, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes, f"{TITLES[instance]}: {AXES[quantity]}", "updates", "mean over runs")


def _draw_convexity(axes: "Axes") -> None:
    curves = scalar_curves()
    axes.axhline(0, color="0.6", linewidth=0.8)
    for values, colour, label in (
        (curves.reduced, BLUE, r"$\Phi''(W)$"),
        (curves.at_zero, VERMILLION, r"least eigenvalue of $\nabla^2f$ at $(W,0)$"),
        (curves.answered, GREEN, r"the same at $(W,\theta^*(W))$"),
    ):
        axes.plot(curves.body, values, color=colour, linewidth=1.5, label=label)
    axes.set_ylim(-1, 1.9)
    axes.legend(loc="upper right")
    _plain(axes, "Lemma 4.1: Φ is convex where f is not", "W", "curvature")


def _draw_ridge(axes: "Axes") -> None:
    ends = torch.randn(2, 3, 2, generator=generator(0, "line"), dtype=torch.float64)
    place = torch.linspace(0, 1, 101, dtype=torch.float64)
    bodies = ends[0] + place[:, None, None] * (ends[1] - ends[0])
    for ridge, colour in ((RIDGE, BLUE), (0.0, VERMILLION)):
        label = f"ridge {ridge:g} on θ" if ridge else "no ridge"
        axes.plot(place, reduced_values(bodies, ridge), color=colour, linewidth=1.5, label=label)
    axes.legend(loc="center right")
    _plain(
        axes,
        "Chain: half the MSPBE at the best head",
        "from one random body to another",
        r"$\Phi(W)$",
    )


def _draw_kink(axes: "Axes") -> None:
    weights = torch.linspace(-0.3, 0.3, 201, dtype=torch.float64)
    for activation, colour, label in (
        (torch.relu, VERMILLION, "ReLU: a kink that points upwards"),
        (torch.nn.functional.softplus, BLUE, "softplus"),
    ):
        values = torch.stack(
            [relu_kink.kinked_objective(weight, RIDGE, activation) for weight in weights]
        )
        middle = values[len(values) // 2]
        axes.plot(weights, values - middle, color=colour, linewidth=1.5, label=label)
    axes.legend(loc="lower left")
    _plain(axes, "Two samples, one hidden unit", "w", r"$\Phi(w)-\Phi(0)$")


@styled
def draw_convergence(
    path: Path,
    history: History,
    slopes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    fit_from: int,
    vector: str | None = None,
) -> None:
    """Write the figure: a row of errors an instance, and a row about the instances.

    slopes: {instance: {schedule: {quantity: {"mean": …}}}}
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    figure = Figure(
        figsize=(12.6, 3.0 * (len(slopes) + 1) + 0.9),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.07),
    )
    grid = figure.add_gridspec(len(slopes) + 1, 3)
    for row, (instance, of_instance) in enumerate(slopes.items()):
        for column, quantity in enumerate(QUANTITIES):
            axes = figure.add_subplot(grid[row, column])
            _draw_errors(axes, history, instance, quantity, of_instance, fit_from)
    for column, draw in enumerate((_draw_convexity, _draw_ridge, _draw_kink)):
        draw(figure.add_subplot(grid[len(slopes), column]))
    handles = [
        *(
            Line2D([], [], color=colour, linewidth=2, label=LABELS[schedule])
            for schedule, colour in SCHEDULE_COLOURS.items()
        ),
        Line2D([], [], color=GREY, linestyle="--", label="slope of the theorem's bound"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        title=f"mean of {history.runs} runs, bands: 95 % intervals over runs; numbers: slopes from "
        f"update {fit_from:,} on",
    )
    save_figure(figure, path, vector)
