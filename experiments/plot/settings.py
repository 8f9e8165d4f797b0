"""The settings of drawing runs again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.requirements import several
from experiments.runs.command_line.settings import IN_PLACE, CheckedSettings


@dataclass(frozen=True, kw_only=True)
class PlotSettings(CheckedSettings):
    """Draw runs again from their metrics.csv, without running anything, and print their table.

    FOLDER is the folder of one run, or a folder that holds one folder per rule. All runs are
    compared in one figure.
    """

    program: ClassVar[str] = "python -m experiments.plot"

    folder: Annotated[tuple[Path, ...], IN_PLACE, several]
    """One or several folders of runs."""
    out: Path | None = None
    """File to write: .png, .pdf or .svg. The default is figure.png in FOLDER for one folder, and
    comparison.png in the current folder for several."""
    metric: Annotated[tuple[str, ...] | None, several] = None
    """Metrics to draw, such as rmsve or tracking_error_head. Each has a panel. The default is all
    errors, tracking errors and the rank."""
