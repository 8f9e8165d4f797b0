"""Finished or interrupted runs, and studies of step sizes, read from their folders.

from experiments.runs.loading import load_run, load_runs, load_study

run = load_run("runs/best")                 # one run folder
run.summary["metrics"]["rmsve"]["final"]    # the mean, its interval and the median
run.history.values("error/rmsve")           # [time, run]
run.frame()                                 # a pandas table, one row per measurement and run
load_runs("runs/rules")["td"]               # several rules in one folder
load_study("runs/sweep").results            # a pandas table, one row per configuration
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.runs.command_line.checks import UsageError
from experiments.runs.folder.files import read_json
from experiments.runs.folder.folder_contents import CONFIG, METRICS_FILE, PARTS, SUMMARY
from experiments.runs.results.history import LEADING_COLUMNS, History, read

if TYPE_CHECKING:
    from pandas import DataFrame

# The tables of a study.
STUDY_RESULTS, STUDY_SELECTIONS = "sweep.csv", "selected-*.csv"


class FinishedRun(NamedTuple):
    """A run folder that was read; fields that its files do not give are empty.

    history: the measurements; `history.values(metric)` is [time, run], `history.steps` [time]
    truth_standard_error: root mean square standard error of the true values, 0 where they are exact
    config, summary: what `config.json` and `summary.json` hold
    """

    folder: Path
    problem: str
    rule: str
    seed: int
    history: History
    truth_standard_error: float | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    def frame(self) -> "DataFrame":
        """Return the measurements as a table with a row per measurement and run.

        Its columns are those of `metrics.csv`: step, run, diverged, and the metrics by name.
        """
        import pandas

        history = self.history
        shape = (len(history), history.runs)
        steps = np.broadcast_to(history.steps[:, None], shape)
        leading = {
            "step": steps,
            "run": np.broadcast_to(np.arange(history.runs), shape),
            "diverged": history.diverged_steps <= steps,
        }
        assert tuple(leading) == LEADING_COLUMNS
        metrics = {name: history.values(name) for name in history.names}
        return pandas.DataFrame({name: each.ravel() for name, each in (leading | metrics).items()})


class FinishedStudy(NamedTuple):
    """A study's folder that was read.

    results:  a table with a row per configuration of step sizes
    selected: {metric: a table of the configurations that were selected by it, on fresh runs}
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    results: "DataFrame"
    selected: Mapping[str, "DataFrame"]


def load_run(folder: Path | str) -> FinishedRun:
    """Return the run of one folder; ValueError in one line where there is not exactly one."""
    found = run_folders(Path(folder))
    if len(found) > 1:
        names = ", ".join(repr(path.name) for path in found)
        raise ValueError(f"{folder} holds several runs, {names}: use load_runs")
    return read_run(found[0])


def load_runs(folder: Path | str) -> dict[str, FinishedRun]:
    """Return the runs of a folder by the names of their folders, such as those of the rules."""
    return {path.name: read_run(path) for path in run_folders(Path(folder))}


def load_study(folder: Path | str) -> FinishedStudy:
    """Return the tables of a study of step sizes; ValueError in one line where there is none."""
    folder = Path(folder)
    _check_folder(folder)
    if not (folder / STUDY_RESULTS).is_file():
        raise ValueError(f"{folder} holds no finished study: there is no {STUDY_RESULTS} in it")
    selected = {
        path.stem.partition("-")[2]: _table(path) for path in sorted(folder.glob(STUDY_SELECTIONS))
    }
    config, summary = _optional(folder / CONFIG), _optional(folder / SUMMARY)
    return FinishedStudy(folder, config, summary, _table(folder / STUDY_RESULTS), selected)


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders at a path: itself, or those in it; UsageError where there is none."""
    _check_folder(folder)
    if (folder / METRICS_FILE).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{METRICS_FILE}"))
    if not found and (folder / PARTS).is_dir():
        raise UsageError(
            f"{folder} holds a step-size study and no run: its figures are in it, and "
            "python -m experiments.sweep draws them again with --resume"
        )
    if not found:
        raise UsageError(
            f"{folder} holds no run: there is no {METRICS_FILE} in it or in its folders"
        )
    # In the order in which the rules were given, where the run tells.
    listed = _optional(folder / CONFIG).get("folders") or []
    missing = [name for name in listed if folder / name not in found]
    if missing:
        lacking = ", ".join(f"{folder / name}" for name in missing)
        print(f"note: left out, since there is no {METRICS_FILE}: {lacking}", file=sys.stderr)
    order = {name: index for index, name in enumerate(listed)}
    return sorted(found, key=lambda path: order.get(path.name, len(order)))


def read_run(folder: Path) -> FinishedRun:
    """Read a run folder; ValueError where a file is damaged or nothing was measured yet."""
    history = read(folder / METRICS_FILE)
    if not len(history):
        raise UsageError(f"{folder / METRICS_FILE} holds no measurement yet")
    config, result = _optional(folder / CONFIG), _optional(folder / SUMMARY)
    rule = result.get("rule") or config.get("rule")
    if isinstance(rule, list) and len(rule) == 1:
        rule = rule[0]
    return FinishedRun(
        folder=folder,
        problem=str(result.get("problem") or config.get("problem") or ""),
        rule=rule if isinstance(rule, str) else folder.resolve().name,
        seed=_seed(folder, result.get("seed", config.get("seed"))),
        history=history,
        truth_standard_error=_truth_error(result.get("noise")),
        config=config,
        summary=result,
    )


def _check_folder(folder: Path) -> None:
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from None
    if not is_folder:
        raise UsageError(f"{folder} is not a folder")


def _truth_error(noise: Any) -> float | None:
    found = noise.get("truth") if isinstance(noise, dict) else None
    return float(found) if isinstance(found, float | int) else None


def _seed(folder: Path, value: Any) -> int:
    if value is not None and not isinstance(value, int):
        raise UsageError(f"{folder}: its seed {value!r} is not a whole number")
    return value or 0


def _table(path: Path) -> "DataFrame":
    import pandas

    try:
        return pandas.read_csv(path)
    except (ValueError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} cannot be read as a table: {said}") from None


def _optional(path: Path) -> Mapping[str, Any]:
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
