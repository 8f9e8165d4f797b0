"""The settings of drawing runs again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.requirements import several
from experiments.runs.command_line.settings import IN_PLACE, CheckedSettings


@dataclass(frozen=True, kw_only=True)
class PlotSettings(CheckedSettings):
    """Draw runs again from their metrics.csv, without running anything, and print their table.

    A FOLDER is the folder of one run, or one that holds a folder per rule; all that are given are
    compared in one figure.
    """

    program: ClassVar[str] = "python -m experiments.plot"

    folder: Annotated[tuple[Path, ...], IN_PLACE, several]
    """Folders of runs, one or several."""
    out: Path | None = None
    """File to write: .png, .pdf or .svg. If not given: figure.png in the one FOLDER, or
    comparison.png in the current folder for several."""
    metric: Annotated[tuple[str, ...] | None, several] = None
    """Metrics to draw, one panel each, such as rmsve or tracking_error_head. If not given:
    errors, tracking errors and rank."""
