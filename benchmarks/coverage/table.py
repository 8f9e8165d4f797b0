"""The table and the figure of the coverage benchmark."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.coverage.cases import CHAINS, SIZES
from benchmarks.coverage.run import METHODS

# How all figures of the project look.
STYLE = Path(__file__).parents[2] / "experiments/runs/results/figures.mplstyle"
LEVELS = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])
Results = dict[tuple[str, int, str], dict[str, Any]]


def ends(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high of every log's interval, as `data_interval` makes them at 95 %.

    values: [log, resample], the log itself first
    """
    others = np.where(np.isfinite(values[:, 1:]), values[:, 1:], np.nan)
    number = np.isfinite(others).sum(1)
    half = student.ppf((1 + level) / 2, number - 1) * np.nanstd(others, axis=1, ddof=1)
    return values[:, 0] - half, values[:, 0] + half


def percentile_ends(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high by the percentiles of the resamples, for comparison."""
    low, high = np.nanquantile(values[:, 1:], [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


def covered(results: dict[str, Any], level: float, make: Any = ends) -> float:
    """Return the share of logs whose interval contains the true value."""
    low, high = make(np.array(results["values"], dtype=float), level)
    truth = np.array(results["truth"])
    return float(((low <= truth) & (truth <= high)).mean())


def table(results: Results) -> str:
    """Return the Markdown table: a row per chain, size and method."""
    rows = [
        "| chain | transitions | units | effective | method | bias / deviation | width / ideal | "
        "percentiles | **Student's t** |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (chain, size, method), found in results.items():
        values, truth = np.array(found["values"], dtype=float), np.array(found["truth"])
        error = values[:, 0] - truth
        deviation = error.std(ddof=1)
        low, high = ends(values, 0.95)
        cells = [
            chain,
            f"{size:,}",
            f"{np.median(found['units']):.0f}",
            f"{np.mean(found['effective']):.0%}",
            method,
            f"{error.mean() / deviation:+.2f}",
            f"{np.median(high - low) / (2 * 1.96 * deviation):.2f}",
            f"{covered(found, 0.95, percentile_ends):.3f}",
            f"{covered(found, 0.95):.3f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    count = min(len(found["truth"]) for found in results.values())
    error = math.sqrt(0.95 * 0.05 / count)
    return "\n".join(
        [*rows, "", f"{count} logs per row; a share of 0.95 has an error of {error:.3f}."]
    )


def calibration_figure(results: Results, path: Path) -> None:
    """Draw how often intervals hold the truth over how often they should, one panel per method."""
    from matplotlib.style import context

    with context(["default", STYLE]):
        _draw_calibration(results).savefig(path)


def _draw_calibration(results: Results) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(METHODS), sharey=True)
    for axes, method in zip(panels, METHODS):
        axes.plot([0.4, 1], [0.4, 1], color="black", linewidth=0.8)
        for color, chain in enumerate(CHAINS):
            for size, style in zip(SIZES, (":", "-")):
                found = results.get((chain, size, method))
                if found is None:
                    continue
                shares = [covered(found, level) for level in LEVELS]
                label = chain if size == SIZES[-1] else None
                axes.plot(LEVELS, shares, style, color=f"C{color}", marker=".", label=label)
        axes.set_title(method)
        axes.set_xlabel("nominal coverage")
    panels[0].set_ylabel("measured coverage: share of logs whose\ninterval contains the true value")
    panels[0].legend(loc="lower right")
    styles = ", ".join(f"{n:,} {s}" for n, s in zip(SIZES, ("dotted", "solid")))
    figure.suptitle(f"Calibration of the intervals of ρ(π); transitions: {styles}")
    return figure
