"""The runs of one command, one after another: each is learned, summarised and drawn."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evaluate_policy.learning.search import SearchRun
from experiments.evaluate_policy.results.figures import draw_run, draw_together
from experiments.evaluate_policy.results.final_report import Run
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CONFIG, FIGURE, SUMMARY

# Seconds after which the common figure is drawn again while rules are still learned.
REDRAW_AFTER = 30.0


def learn_in_turn(
    out: Path,
    runs: Sequence[Run],
    config: dict[str, Any],
    settings: EvaluationSettings,
    cores: int,
) -> dict[str, dict[str, Any]]:
    """Run all to their end, with their files and the common ones, and return {name: summary}.

    config: of all runs, to which each adds its rule
    cores:  that figures may be drawn on
    """
    if settings.resume and any(isinstance(run, SearchRun) and run.choice is None for run in runs):
        print("auto: the search was stopped before its end, and starts from the beginning")
    if len(runs) > 1:
        write_json(out / CONFIG, {**config, "folders": [run.folder.name for run in runs]})
    summaries: dict[str, dict[str, Any]] = {}
    drawn = time.perf_counter()
    for number, run in enumerate(runs, start=1):
        write_json(run.folder / CONFIG, {**config, "rule": [run.name]})
        run.learn()
        summaries[run.name] = run.summary()
        draw_run(run, settings.value_dimensions, settings.vector, cores)
        if len(runs) > 1:
            write_json(out / SUMMARY, summaries)
            # Rules that take seconds each are drawn together at the end, others at once.
            if number == len(runs) or time.perf_counter() - drawn > REDRAW_AFTER:
                draw_together(out / FIGURE, runs[:number], settings.vector)
                drawn = time.perf_counter()
    return summaries
