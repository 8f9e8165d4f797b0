"""Train at split learning rates: python -m experiments.train_supervised --task NAME …

All arms × seeds learn as one population, from the same initial networks and on the same batches.
One arm's run is the folder --out; of several each has a folder of its own in it, and --out has the
common figure, summary and checkpoint.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main
from experiments.runs.folder.folder_contents import FIGURE
from experiments.runs.results.figures import evaluation_figure
from experiments.runs.results.panels import metric_panels
from experiments.runs.results.report import (
    divergence_warning,
    metric_columns,
    table,
    tensorboard_line,
)
from experiments.train_supervised.metrics import SUPERVISED_METRICS
from experiments.train_supervised.run import SupervisedRun
from experiments.train_supervised.settings import read_supervised_settings
from experiments.train_supervised.tables import NOTES, comparisons, correlations, unsolved_warning
from experiments.train_supervised.train import supervised_run


def _draw(run: SupervisedRun, title: str, vector: str | None) -> Path:
    histories = run.histories
    panels = metric_panels(SUPERVISED_METRICS.values(), histories)
    for arm, folder in run.folders.items():
        if len(run.folders) > 1:
            own = {arm: histories[arm]}
            evaluation_figure(folder / FIGURE, own, f"{title}: {arm}", panels, vector=vector)
    evaluation_figure(run.out / FIGURE, histories, title, panels, vector=vector)
    return run.out / FIGURE


def train_supervised(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = read_supervised_settings(argv)
    with supervised_run(settings, argv) as run:
        summaries = run.summaries()
        figure = _draw(run, f"Learning rates of body and head: {settings.task}", settings.vector)
    measured = {name for summary in summaries.values() for name in summary["metrics"]}
    print(f"\n{table(summaries, metric_columns(measured, SUPERVISED_METRICS), 'arm')}\n")
    if settings.task in NOTES:
        print(NOTES[settings.task])
    for line in (*comparisons(run.histories), *correlations(run.histories)):
        print(line)
    for result in summaries.values():
        if diverged := divergence_warning(result):
            print(diverged, file=sys.stderr)
    if unsolved := unsolved_warning(run):
        print(unsolved, file=sys.stderr)
    print(f"figure: {figure}")
    print(f"watch:  {tensorboard_line(run.out)}")
    print(run.recorder.clock.line())


if __name__ == "__main__":
    leave(main(train_supervised))
