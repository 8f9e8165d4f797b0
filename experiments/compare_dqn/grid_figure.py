"""The figure of a comparison over a grid: learning curves, and performance profiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare_dqn.grid import Candidate, Entrant
from experiments.compare_dqn.grid_report import GameReport, fresh_scores
from experiments.runs.results.comparisons import performance_profile
from experiments.runs.results.intervals import interquartile_interval, interval_name
from experiments.runs.results.style import GREY, rule_styles, save_figure, styled
from experiments.train_dqn.figures import Curve, draw_scores


@styled
def grid_figure(path: Path, reports: Mapping[str, GameReport], vector: str | None = None) -> None:
    """Draw a row per game: interquartile means of scores over agent steps, and profiles.

    Raises OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(layout="constrained", figsize=(9.0, 3.2 * len(reports) + 0.9))
    handles: dict[str, Any] = {}
    for row, (game, found) in enumerate(reports.items()):
        learning = figure.add_subplot(len(reports), 2, 2 * row + 1)
        profile = figure.add_subplot(len(reports), 2, 2 * row + 2)
        lines = _lines(found)
        styles = rule_styles([entrant.name for entrant in found.chosen])
        fresh = {name: fresh_scores(found, entrant) for name, entrant in lines.items()}
        everything = np.concatenate([[found.random], *fresh.values()])
        thresholds = np.linspace(everything.min(), everything.max(), 101)
        for name, entrant in lines.items():
            style = styles[entrant.name]
            scores, _ = found.report.of(found.chosen[entrant][0])
            curve = Curve(found.report.steps, *interquartile_interval(scores))
            share = Curve(thresholds, *performance_profile(fresh[name], thresholds))
            line = draw_scores(learning, curve, style.colour, line=style.line)
            handles.setdefault(name, line)
            draw_scores(profile, share, style.colour, line=style.line)
        random = learning.axhline(found.random, color=GREY, linestyle=":", linewidth=1.0)
        handles.setdefault("random policy", random)
        learning.set(title=game, xlabel="agent steps", ylabel="raw score of a whole game")
        profile.set(
            title="Performance profile", xlabel="score τ", ylabel="share of seeds with score ≥ τ"
        )
        learning.xaxis.set_major_formatter(EngFormatter(sep=""))
        for axes in (learning, profile):
            axes.grid(True)
    seeds = len(fresh[name])
    intervals = interval_name([seeds])
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=3,
        title=f"rule/arm at its best rates, interquartile mean of {seeds} fresh seeds, bands: "
        f"{intervals}{'' if 'bootstrap' in intervals else '; of profiles: bootstrap'}",
        title_fontsize=7,
    )
    save_figure(figure, path, vector)


def _lines(found: GameReport) -> dict[str, Entrant]:
    """Return {name: entrant}, one for all entrants that chose the same runs."""
    names: dict[Candidate, list[str]] = {}
    first: dict[Candidate, Entrant] = {}
    for entrant, (candidate, _) in found.chosen.items():
        names.setdefault(candidate, []).append(entrant.name)
        first.setdefault(candidate, entrant)
    return {" = ".join(each): first[candidate] for candidate, each in names.items()}
