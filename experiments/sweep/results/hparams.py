"""A study for TensorBoard's HParams page: a run a configuration, with its steps and its errors."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.runs.folder.folder_contents import folder_name
from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History
from experiments.sweep.results.rows import Report, Row, described

HPARAMS = "tensorboard"
# The page becomes slow with more: then only the selected configurations are written.
MOST = 500


def write_hparams(out: Path, swept: Sequence[Row], answers: Sequence[Report]) -> None:
    """Write one TensorBoard run a configuration: means over the runs that survive.

    Of a study of more than 500 configurations only the selected ones, on their fresh runs.
    """
    rows = list(swept) if len(swept) <= MOST else [report.fresh for report in answers]
    shutil.rmtree(out / HPARAMS, ignore_errors=True)
    for number, row in enumerate(rows):
        panel = folder_name("-".join(row.panel))
        folder = out / HPARAMS / panel / f"{folder_name(row.cell.rule)}-{number}"
        folder.mkdir(parents=True)
        log = TensorBoardLog(folder)
        names = [name for name in row.values if name.startswith("final/")]
        history = History()
        last = {f"error/{name.removeprefix('final/')}": row.values[name] for name in names}
        history.append(row.cell.plan.steps, last, row.diverged)
        averages = {name: row.values["auc/" + name.removeprefix("error/")] for name in last}
        log.write(history)
        log.write_hparams(described(row), history, averages)
        log.close()
