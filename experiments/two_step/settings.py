"""The settings of the study of one and two steps of linear networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.common_settings import FolderSettings
from experiments.runs.command_line.requirements import above, count, several


@dataclass(frozen=True, kw_only=True)
class TwoStepSettings(FolderSettings):
    """Compare closed forms of the first two steps of linear networks with simulation.

    The networks have two or three layers and make one or two steps. Learning rates are in units of
    h² (two layers) or h (three layers), where h is the width: with rate 1, one step of the signal
    part alone learns the target. metrics.csv has one row per number of layers, number of steps,
    sum of rates and share e₁/(e₁ + e₂). The same command gives the same numbers. It takes
    less than a minute.
    """

    program: ClassVar[str] = "python -m experiments.two_step"

    width: Annotated[int, count(2, 512)] = 64
    """Width h of the networks of the maps and of the simulated lines."""
    draws: Annotated[int, count(2, 100_000)] = 200
    """Number of random networks for every simulated point. All learning rates use the same
    networks."""
    sums: Annotated[tuple[float, ...], several, above(0)] = (0.02, 0.05, 0.1, 0.2, 0.4)
    """Sums e₁ + e₂ of the learning rates, in the units above, at which closed form and simulation
    are compared."""
    optima: Annotated[int, count(2, 100_000)] = 100
    """Number of random networks for the exact optimum of one step."""
    optima_width: Annotated[int, count(2, 256)] = 16
    """Width of the networks of --optima."""
    seed: Annotated[int, count(0)] = 0
    """Seed of the networks."""
    out: Path = Path("runs/two-step")
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --out with the same flags. Finished parts are kept."""
