"""The figures of finished rules: curves of each, curves of all together, and the values."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from envs.control.workers import in_parallel, worker_count
from experiments.evaluate_policy.learning.search import SearchRun
from experiments.evaluate_policy.results.choice_figure import choice_figure
from experiments.evaluate_policy.results.final_report import Run, learned_value
from experiments.evaluate_policy.results.value_figure import value_figure
from experiments.runs.folder.folder_contents import FIGURE, VALUES
from experiments.runs.results.figures import evaluation_figure


def draw_run(
    run: Run, dimensions: tuple[int, ...] | None, vector: str | None, cores: int = 1
) -> None:
    """Draw the figures of a finished rule: curves, or the ranking of a search, and the values.

    dimensions: the two components of the observation over which values are drawn, if chosen
    vector:     pdf or svg: the same figures in this format too
    cores:      both are drawn at once, in two processes, where there is more than one
    """
    path, task = run.folder / FIGURE, run.task
    figures = []
    if not isinstance(run, SearchRun):
        title = f"Policy evaluation on {task.name}: {run.name}"
        histories = {run.name: run.history}
        figures.append(partial(evaluation_figure, path, histories, title, vector=vector))
    elif run.choice is not None:
        figures.append(partial(choice_figure, path, run.choice, learned_value(run), task, vector))
    if not run.history.diverged.all():
        title, path = f"Values of {task.name}: {run.name}", run.folder / VALUES
        value = learned_value(run)
        figures.append(partial(value_figure, path, value, task, title, dimensions, vector))
    if len(figures) > 1 and worker_count(0, cores) > 1:
        in_parallel(figures)
        return
    for draw in figures:
        draw()


def draw_together(path: Path, runs: Sequence[Run], vector: str | None) -> None:
    """Draw the common figure of the rules that are done."""
    histories = {run.name: run.history for run in runs}
    title = f"Policy evaluation on {runs[0].task.name}"
    evaluation_figure(path, histories, title, vector=vector)
