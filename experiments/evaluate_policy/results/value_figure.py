"""Pictures of learned values: against the true ones, and over two components of the observation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.task import Task
from experiments.evaluate_policy.results.values_at import (
    ValuesAt,
    data_observations,
    drawn_components,
    truth_states,
    values_at,
)
from experiments.runs.results.style import BLUE, VERMILLION, save_figure, styled
from neural_tdc.value_function import ValueFunction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def value_figure(
    path: Path,
    value: ValueFunction,
    task: Task,
    title: str,
    components: Sequence[int] | None = None,
    vector: str | None = None,
) -> None:
    """Draw learned values against true ones, and both over two components of the observation.

    components: two numbers, from 0; those with the largest influence on V if not given
    vector:     pdf or svg: the same figure in this format too

    Of a finite chain values are drawn over the number of the state. Without a truth the second
    picture is the spread over runs. Raises ValueError where all runs diverged.
    """
    from matplotlib.figure import Figure

    truth, chain = task.truth, task.states is not None
    at_truth = None
    if truth is not None:
        at_truth = values_at(value, truth_states(task, truth), task, truth.value)
    data = None
    if not chain:
        observation = data_observations(task)
        data = values_at(value, observation, task)
        pair = drawn_components(value, observation, task, components)
    panels: list[Callable[[Any], None]] = []
    if at_truth is not None:
        error = 0.0 if truth is None else float(truth.squared_error) ** 0.5
        panels.append(partial(_against_truth, at=at_truth, error=error))
        if chain:
            panels.append(partial(_over_states, at=at_truth))
    if data is not None and data.observation.shape[1] == 1:
        panels.append(partial(_over_one, data=data, at_truth=at_truth))
    elif data is not None:
        panels += _over_pair(data, at_truth, pair)
    rows = 2 if len(panels) > 3 else 1
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(4.8 * columns, 4.0 * rows), layout="constrained")
    for place, draw in enumerate(panels):
        draw(figure.add_subplot(rows, columns, place + 1))
    figure.suptitle(title)
    save_figure(figure, path, vector)


def _over_pair(
    data: ValuesAt, at_truth: ValuesAt | None, pair: Sequence[int]
) -> list[Callable[[Any], None]]:
    """Return the panels of values over two components."""
    known = None if at_truth is None else at_truth.true
    shown = data.learned if known is None else np.concatenate([data.learned, known])
    limits = (float(np.min(shown)), float(np.max(shown)))
    over = partial(_over_two, pair=pair)
    panels = [partial(over, at=data, shown=data.learned, title="V learned", limits=limits)]
    if at_truth is not None and known is not None:
        wrong = at_truth.learned - known
        panels.append(partial(over, at=at_truth, shown=known, title="V true", limits=limits))
        panels.append(partial(over, at=at_truth, shown=wrong, title="V learned − V true"))
    elif data.spread.any():
        most = (0.0, float(data.spread.max()))
        title = "spread of V over runs"
        panels.append(partial(over, at=data, shown=data.spread, title=title, limits=most))
    return [*panels]


def _against_truth(axes: "Axes", at: ValuesAt, error: float) -> None:
    """Draw learned over true values, with the spread over runs and the truth's own error."""
    assert at.true is not None
    spread = at.spread if at.spread.any() else None
    axes.errorbar(
        at.true,
        at.learned,
        yerr=spread,
        xerr=error or None,
        fmt=".",
        color=BLUE,
        ecolor="#B0C4DE",
        elinewidth=0.7,
        alpha=0.8,
    )
    low, high = (f(np.concatenate([at.true, at.learned])) for f in (np.min, np.max))
    axes.plot([low, high], [low, high], color="black", linewidth=0.8, label="V learned = V true")
    said = [what for what, there in _bars(spread is not None, error) if there]
    axes.set_title("\n".join(["Learned and true values", *said]))
    axes.set_xlabel("V true")
    axes.set_ylabel("V learned")
    axes.legend()


def _bars(spread: bool, error: float) -> list[tuple[str, bool]]:
    return [
        ("vertical bars: standard deviation over runs", spread),
        (f"horizontal bars: standard error of the true values, {error:.2g}", error > 0),
    ]


def _over_states(axes: "Axes", at: ValuesAt) -> None:
    """Draw learned and true values over the number of the state."""
    assert at.true is not None
    state = at.observation[:, 0]
    axes.plot(state, at.true, "_", color="black", markersize=9, label="V true")
    axes.errorbar(
        state,
        at.learned,
        yerr=at.spread if at.spread.any() else None,
        fmt=".",
        color=BLUE,
        label="V learned",
    )
    axes.set_title("Values of the states")
    axes.set_xlabel("state")
    axes.set_ylabel("V")
    axes.legend()


def _over_one(axes: "Axes", data: ValuesAt, at_truth: ValuesAt | None) -> None:
    """Draw values over the only component of the observation."""
    axes.plot(data.observation[:, 0], data.learned, ".", color=BLUE, label="V learned")
    if at_truth is not None and at_truth.true is not None:
        axes.plot(at_truth.observation[:, 0], at_truth.true, "x", color=VERMILLION, label="V true")
    axes.set_title("Values at observations of the data")
    axes.set_xlabel("observation[0]")
    axes.set_ylabel("V")
    axes.legend()


def _over_two(
    axes: "Axes",
    at: ValuesAt,
    shown: np.ndarray,
    pair: Sequence[int],
    title: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """Colour observations by a value, over two of their components.

    limits: of the colours; a difference, without them, has 0 in the middle
    """
    if limits is None:
        size = float(np.abs(shown).max()) or 1.0
        limits, colours = (-size, size), "RdBu_r"
    else:
        colours = "viridis"
    x, y = (at.observation[:, component] for component in pair)
    drawn = axes.scatter(
        x,
        y,
        c=shown,
        s=9 if len(shown) > 500 else 25,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        edgecolors="0.7",
        linewidths=0.2,
    )
    axes.figure.colorbar(drawn, ax=axes)
    axes.set_title(f"{title}, {len(shown)} observations")
    axes.set_xlabel(f"observation[{pair[0]}]")
    axes.set_ylabel(f"observation[{pair[1]}]")
