"""The settings of the study of one and two steps of linear networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.common_settings import FolderSettings
from experiments.runs.command_line.requirements import above, count, several


@dataclass(frozen=True, kw_only=True)
class TwoStepSettings(FolderSettings):
    """Compare closed forms of the first two steps of linear networks with simulation.

    Two and three layers, one and two steps. Rates are in units of h² (two layers) or h (three), at
    which one step of the signal part alone learns the target; h is the width. metrics.csv has one
    row per layer count, step count, sum of rates and share. The same command gives the same
    numbers; it takes less than a minute.
    """

    program: ClassVar[str] = "python -m experiments.two_step"

    width: Annotated[int, count(2, 512)] = 64
    """Width h of the networks of the maps and the simulated lines."""
    draws: Annotated[int, count(2, 100_000)] = 200
    """Networks drawn for every simulated point; all rates see the same networks."""
    sums: Annotated[tuple[float, ...], several, above(0)] = (0.02, 0.05, 0.1, 0.2, 0.4)
    """Sums e₁ + e₂, in units, along which closed form and simulation are compared."""
    optima: Annotated[int, count(2, 100_000)] = 100
    """Networks drawn for the exact one-step optimum."""
    optima_width: Annotated[int, count(2, 256)] = 16
    """Width of these networks."""
    seed: Annotated[int, count(0)] = 0
    """Seed of the networks."""
    out: Path = Path("runs/two-step")
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --out: parts that are finished are kept; with the same flags."""
