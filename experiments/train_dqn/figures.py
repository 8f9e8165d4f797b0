"""Learning curves of deep Q-learning: scores of evaluations over agent steps, with intervals."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.runs.results.history import History
from experiments.runs.results.intervals import FEWEST_CUT, interval_name
from experiments.runs.results.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    save_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARM_COLOURS = {"split": BLUE, "body": VERMILLION, "head": GREEN, "opposite": ORANGE}
ARM_NAMES = {
    "split": "split rates",
    "body": "all at the body's rate",
    "head": "all at the head's rate",
    "opposite": "rates exchanged",
}


class Curve(NamedTuple):
    """One line: agent steps, scores, and the ends of their interval, all [time]."""

    steps: np.ndarray
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _axes(figure: "Figure", count: int) -> "list[Axes]":
    columns = min(count, 2)
    rows = -(-count // columns)
    figure.set_size_inches(5.2 * columns, 3.5 * rows + 0.8)
    return [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def _finish(axes: "Axes", title: str, label: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_title(title)
    axes.set_xlabel("agent steps")
    axes.set_ylabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(True)


def draw_scores(axes: "Axes", curve: Curve, colour: str, marker: str = "", line: str = "-") -> Any:
    """Draw a curve with its band, or its only point with an error bar; return what a legend needs.

    marker, line: of the points of a curve, and the style of its line
    """
    if len(curve.steps) == 1:
        # Of one point neither a line nor a band can be seen. Without an interval there is no bar.
        lengths = np.nan_to_num(np.stack([curve.score - curve.low, curve.high - curve.score]))
        return axes.errorbar(
            curve.steps, curve.score, lengths, fmt="o", color=colour, markersize=7, capsize=5
        )
    axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    (drawn,) = axes.plot(
        curve.steps,
        curve.score,
        color=colour,
        linestyle=line,
        linewidth=1.5,
        marker=marker,
        markersize=3,
    )
    return drawn


def _note(protocol: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())
    return "\n".join(textwrap.wrap(text, 120))


@styled
def run_figure(
    path: Path,
    history: History,
    title: str,
    protocol: Mapping[str, Any],
    vector: str | None = None,
) -> None:
    """Draw one run: scores of its evaluations and returns in training, with the protocol below.

    Raises OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    evaluated, training = _axes(figure, 2)
    score = history.values("evaluation/score")[:, 0]
    at = np.isfinite(score)
    steps = history.steps
    low, high = (history.values(f"evaluation/{end}")[:, 0] for end in ("low", "high"))
    draw_scores(evaluated, Curve(steps[at], score[at], low[at], high[at]), BLUE, "o")
    _finish(evaluated, "Evaluations: mean of the games, 95 % interval", "raw score of a whole game")
    returns = history.values("return/training")[:, 0]
    ended = np.isfinite(returns)
    size = 12 if ended.sum() == 1 else 3
    training.plot(
        steps[ended], returns[ended], color=GREY, linewidth=1, marker=".", markersize=size
    )
    _finish(training, "Training: mean of the games since the last point", "raw score, ε-greedy")
    figure.suptitle(title)
    figure.supxlabel(_note(protocol), fontsize=7)
    save_figure(figure, path, vector)


@styled
def comparison_figure(
    path: Path,
    curves: Mapping[str, Mapping[str, Curve]],
    references: Mapping[str, float],
    note: str,
    seeds: int,
    vector: str | None = None,
) -> None:
    """Draw the learning curves of several arms, a panel a game.

    curves:      {game: {arm: curve}}
    references:  {game: score of the random policy}
    note:        the protocol in words
    vector:      pdf or svg: the same figure in this format too
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    handles: dict[str, Any] = {}
    for axes, (game, arms) in zip(_axes(figure, len(curves)), curves.items()):
        for arm, curve in arms.items():
            drawn = draw_scores(axes, curve, ARM_COLOURS[arm])
            handles.setdefault(ARM_NAMES[arm], drawn)
        if game in references:
            line = axes.axhline(references[game], color=GREY, linestyle=":", linewidth=1.2)
            handles.setdefault("random policy", line)
        _finish(axes, game, "raw score of a whole game")
    # Nothing is cut of fewer than four: the interquartile mean is then the mean.
    middle = "mean" if seeds < FEWEST_CUT else "interquartile mean"
    over = f"{middle} of {seeds} seeds, bands: {interval_name([seeds])}"
    if seeds == 1:
        over = "one seed"
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=2,
        title="\n".join([over, *textwrap.wrap(note, 105)]),
        title_fontproperties={"size": 7},
    )
    save_figure(figure, path, vector)
