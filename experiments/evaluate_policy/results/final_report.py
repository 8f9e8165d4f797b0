"""What the program prints at its end: errors, the ranking of auto, values at the starts, files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evaluate_policy.learning.method_run import MethodRun
from experiments.evaluate_policy.learning.rule_run import EvaluationRun
from experiments.evaluate_policy.learning.search import SearchRun
from experiments.evaluate_policy.learning.start_value import data_warnings, value_line
from experiments.evaluate_policy.results.controls import control_lines, value_control
from experiments.evaluate_policy.results.noise import noise_lines, noise_summary
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import FIGURE, SUMMARY, VALUES
from experiments.runs.results.report import divergence_warning, table, tensorboard_line
from neural_tdc.value_file import load_value
from neural_tdc.value_function import ValueFunction

Run = EvaluationRun | MethodRun | SearchRun


def learned_value(run: Run) -> ValueFunction:
    """Return what a run saved, with the policy at hand where values of actions need it."""
    actions = run.task.actions
    return load_value(run.folder, None if actions is None else actions.policy)


def add_controls(out: Path, runs: Sequence[Run], summaries: dict[str, Any]) -> list[str]:
    """Add controls and noise of finished rules to their summaries; return the lines to print."""
    found, noise = {}, {}
    for run in runs:
        if not run.history.diverged.all():
            found[run.name] = value_control(summaries[run.name], learned_value(run), run.task)
            summaries[run.name]["control"] = found[run.name]
            noise[run.name] = noise_summary(run.history, run.task.truth)
            summaries[run.name]["noise"] = noise[run.name]
            write_json(run.folder / SUMMARY, summaries[run.name])
    if len(runs) > 1:
        write_json(out / SUMMARY, summaries)
    return [*noise_lines(noise), *control_lines(found)]


def print_results(
    settings: EvaluationSettings,
    out: Path,
    runs: list[Run],
    summaries: dict[str, Any],
    controls: list[str],
) -> None:
    """Print the errors of the rules, the ranking of auto, and where everything is."""
    if runs[1:] or not isinstance(runs[0], SearchRun):
        print(f"\n{table(summaries)}")
    for run in runs:
        if isinstance(run, SearchRun):
            print("", *run.lines(summaries[run.name]), sep="\n")
    print()
    for line in controls:
        print(line, file=sys.stderr if line.startswith("warning") else sys.stdout)
    warnings: set[str] = set()
    for run in runs:
        data = run.evidence
        print(value_line(run.name, summaries[run.name], data))
        warnings.update(data_warnings(settings, data))
    print(*sorted(warnings), sep="\n", end="\n" if warnings else "", file=sys.stderr)
    for result in summaries.values():
        if diverged := divergence_warning(result):
            print(diverged, file=sys.stderr)
    print(f"figure: {out / FIGURE}")
    drawn = [str(path) for run in runs if (path := run.folder / VALUES).exists()]
    if drawn:
        print(f"values: {', '.join(drawn)}")
    learned = [str(run.folder) for run in runs if not run.history.diverged.all()]
    if learned:
        print(f"value:  neural_tdc.load_value({learned[0]!r})")
    print(f"watch:  {tensorboard_line(out)}")
