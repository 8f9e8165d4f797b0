"""The settings of the measurement of rates of convergence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import FolderSettings
from experiments.runs.command_line.requirements import above, count, one_of, several

INSTANCE_NAMES = ("scalar", "regression", "chain")


@dataclass(frozen=True, kw_only=True)
class ConvergenceSettings(FolderSettings):
    """Measure the rates of descent on two time scales against Theorems 3.6 and 3.7.

    Instances: scalar (Lemma 4.1 of the paper), regression (smooth, tanh features), chain (Algorithm
    1 on a small Markov chain, with a ridge on the head). Each is solved with the step sizes of
    Theorem 3.6 (exponents 3/5 for the body, 2/5 for the head), with those of Theorem 3.7 (1, 2/3)
    and with equal ones (1, 1), on the same samples. The same command gives the same numbers. It
    takes about a minute.
    """

    program: ClassVar[str] = "python -m experiments.convergence"

    instance: Annotated[tuple[str, ...], several, one_of(INSTANCE_NAMES)] = INSTANCE_NAMES
    """One or several instances: scalar, regression, chain."""
    runs: Annotated[int, count(2, 100_000)] = 64
    """Number of runs of each instance and schedule. The samples of a run are the same for all
    schedules."""
    steps: Annotated[int, count(100, 10**9)] = 20_000
    """Updates per run."""
    fit_from: Annotated[int | None, count(1)] = None
    """First update of the part to which a slope is fitted. The default is a twentieth of
    --steps."""
    first_step: Annotated[float | None, above(0)] = None
    """Step size of the first update, for body and head. The default is 0.5 for scalar and 0.2
    otherwise."""
    offset: Annotated[float | None, above(0)] = None
    """Number of updates H over which step sizes are nearly constant: ((H + k)/H)^(-a) after k
    updates. The default is 20 for scalar, 200 for regression and 300 for chain."""
    smoothing: Annotated[float, above(0)] = 0.1
    """Parameter τ of the Moreau envelope, smaller than 1/(weak convexity constant of Φ)."""
    seed: Annotated[int, count(0)] = 0
    """Seed of the samples. The instances do not depend on it."""
    out: Path = Path("runs/convergence")
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --out after its last measurement. All other flags must be the same."""

    def __post_init__(self) -> None:
        """Check every field, and that a slope is fitted to half of the updates at least."""
        super().__post_init__()
        if self.fit_from is not None and self.fit_from > self.steps / 2:
            raise UsageError(
                f"--fit-from {self.fit_from} is not allowed: give at most half of --steps "
                f"{self.steps}"
            )
