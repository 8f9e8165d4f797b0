"""Read runs from their folders, draw their common figure and print their table."""

import os
from collections.abc import Sequence
from pathlib import Path

from experiments.plot.settings import PlotSettings
from experiments.runs.command_line.checks import UsageError, suggestion
from experiments.runs.folder.folder_contents import FIGURE, FORMATS
from experiments.runs.loading import FinishedRun, read_run, run_folders
from experiments.runs.results.figures import evaluation_figure
from experiments.runs.results.report import table
from experiments.runs.results.statistics import summary, summary_key
from neural_tdc.metrics.registry import selectable_metrics


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Return a name for each run, none alike: its rule, or as much more as tells them apart."""
    for names in (
        [run.rule for run in runs],
        [f"{run.problem} {run.rule}".strip() for run in runs],
        [str(run.folder) for run in runs],
    ):
        if len(set(names)) == len(names):
            return names
    raise UsageError("a folder is given twice; give each once")


def _chosen_metrics(asked: Sequence[str], runs: Sequence[FinishedRun]) -> list[str] | None:
    """Return the measured names of metrics that were asked for by name or by summary key."""
    names = {name: None for run in runs for name in run.history.names}
    by_key = {summary_key(name): name for name in names} | {name: name for name in names}
    for metric in asked:
        if metric not in by_key:
            known = ", ".join(summary_key(name) for name in names)
            hint = suggestion(metric, by_key)
            raise UsageError(f"--metric {metric} was not measured; there are {known}{hint}")
    return [by_key[metric] for metric in asked] or None


def _evaluates_policy(run: FinishedRun) -> bool:
    """Return whether a run has an error that the figures of policy evaluation show."""
    return not {metric.key for metric in selectable_metrics()}.isdisjoint(run.history.names)


def _check_measured(runs: Sequence[FinishedRun], metrics: Sequence[str] | None) -> None:
    """Raise UsageError where a run measured nothing of what is drawn."""
    for run in runs:
        names = run.history.names
        if metrics is None and not _evaluates_policy(run):
            known = ", ".join(summary_key(name) for name in names)
            raise UsageError(
                f"{run.folder} is not a run of policy evaluation; choose with --metric what to "
                f"draw: {known}"
            )
        if metrics is not None and not {*metrics} & {*names}:
            asked = " or ".join(map(summary_key, metrics))
            raise UsageError(f"{run.folder} did not measure {asked}; leave it out")


def _output(settings: PlotSettings) -> Path:
    """Return the file to write; UsageError where it cannot be one."""
    out = settings.out
    if out is None:
        out = settings.folder[0] / FIGURE if len(settings.folder) == 1 else Path("comparison.png")
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {out} must end in {', '.join(FORMATS)}")
    try:
        is_folder = out.is_dir()
    except OSError as error:  # Such as a name that is too long.
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from None
    if is_folder:
        raise UsageError(f"--out {out} is a folder; give a file")
    if settings.out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK):
        raise UsageError(f"{out} cannot be written; give another file by --out")
    return out


def plot_runs(settings: PlotSettings) -> None:
    """Draw the figure and print the table of the runs in the folders of checked settings."""
    folders = [path for folder in settings.folder for path in run_folders(folder)]
    out = _output(settings)
    runs = [read_run(path) for path in folders]
    names = labels(runs)
    metrics = _chosen_metrics(settings.metric or (), runs)
    _check_measured(runs, metrics)
    evaluated = all(map(_evaluates_policy, runs))
    what = "Policy evaluation" if evaluated else "Runs"
    problems = list(dict.fromkeys(run.problem for run in runs if run.problem))
    errors = [run.truth_standard_error for run in runs if run.truth_standard_error]
    name = "standard error of the truth"
    references = {"error/rmsve": (errors[0], name)} if errors and len(problems) < 2 else {}
    evaluation_figure(
        out,
        dict(zip(names, (run.history for run in runs))),
        " on ".join(filter(None, [what, ", ".join(problems)])),
        metrics,
        references,
    )
    summaries = {
        name: summary(
            run.history,
            problem=run.problem,
            rule=run.rule,
            steps=int(run.history.steps[-1]),
            seed=run.seed,
            seconds={},
        )
        for name, run in zip(names, runs)
    }
    asked = [(summary_key(name), summary_key(name), "final") for name in metrics or ()]
    print(table(summaries, None if evaluated else asked))
    print(f"figure: {out}")
