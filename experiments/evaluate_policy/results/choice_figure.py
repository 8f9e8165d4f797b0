"""The figure of a search for the best value function."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.task import Task
from experiments.evaluate_policy.results.values_at import truth_states, values_at
from experiments.runs.results.style import save_figure, styled
from neural_tdc.value_function import ValueFunction


@styled
def choice_figure(
    path: Path,
    choice: Mapping[str, Any],
    value: ValueFunction,
    task: Task,
    vector: str | None = None,
) -> None:
    """Draw the families' held-out errors with intervals, and values against the truth if known.

    choice: what `summary.json` has of it; its errors are in the squared unit of the values
    value:  the value function that was saved
    vector: pdf or svg: the same figure in this format too
    """
    from matplotlib.figure import Figure

    truth = task.truth
    figure = Figure(figsize=(9.6 if truth is not None else 5.2, 4.2), layout="constrained")
    axes = figure.subplots(1, 1 if truth is None else 2, squeeze=False)[0]
    rows = choice["ranking"][::-1]
    least = max(rows[-1]["held_out_error"], 1e-300)
    for place, row in enumerate(rows):
        # An interval that is not known is null in the file.
        mean, low, high = 100 * np.array(row["difference"], dtype=float) / least
        finite = np.isfinite([low, high]).all()
        reach = [[mean - low], [high - mean]] if finite else None
        axes[0].errorbar(mean, place, xerr=reach, fmt="o", capsize=3, color="C0")
    axes[0].set_yticks(range(len(rows)), [row["family"] for row in rows])
    axes[0].set_xscale("symlog", linthresh=10)
    # The default margin is not logarithmic and cuts the last point.
    axes[0].set_xlim(right=max(10.0, 2 * axes[0].dataLim.x1))
    axes[0].set_title("Families of candidates")
    axes[0].set_xlabel(
        "held-out squared error above the smallest,\n% of the smallest (95 % intervals)"
    )
    if truth is not None:
        true = truth.value.double().cpu()
        at_truth = values_at(value, truth_states(task, truth), task, true)
        axes[1].plot(true, at_truth.learned, ".", color="C0", alpha=0.6)
        ends = [float(true.min()), float(true.max())]
        axes[1].plot(ends, ends, color="black", linewidth=0.8)
        axes[1].set_title("Learned and true values")
        axes[1].set_xlabel("true value")
        axes[1].set_ylabel("learned value")
    figure.suptitle(f"The best value function on {task.name}")
    save_figure(figure, path, vector)
