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

    Instances: scalar (Lemma 4.1), regression (smooth, tanh features), chain (Algorithm 1 on a small
    Markov chain with a ridge on the head). Each is descended with the steps of Theorem 3.6
    (exponents 3/5 of the body, 2/5 of the head), of Theorem 3.7 (1, 2/3) and with uniform steps
    (1, 1), on the same samples. The same command gives the same numbers; it takes about a minute.
    """

    program: ClassVar[str] = "python -m experiments.convergence"

    instance: Annotated[tuple[str, ...], several, one_of(INSTANCE_NAMES)] = INSTANCE_NAMES
    """Instances: scalar, regression, chain; one or several."""
    runs: Annotated[int, count(2, 100_000)] = 64
    """Runs of each instance and schedule; a run's samples are the same for all schedules."""
    steps: Annotated[int, count(100, 10**9)] = 20_000
    """Updates of each run."""
    fit_from: Annotated[int | None, count(1)] = None
    """First update that a slope is fitted to; a twentieth of --steps if not given."""
    first_step: Annotated[float | None, above(0)] = None
    """Step size of the first update, body and head alike; if not given 0.5 (scalar) or 0.2."""
    offset: Annotated[float | None, above(0)] = None
    """Updates over which the steps hardly decay; if not given 20 (scalar), 200, 300 (chain)."""
    smoothing: Annotated[float, above(0)] = 0.1
    """τ of the Moreau envelope, below 1/(weak convexity of Φ)."""
    seed: Annotated[int, count(0)] = 0
    """Seed of the samples; the instances themselves are always the same."""
    out: Path = Path("runs/convergence")
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --out after its last measurement, with the same flags."""

    def __post_init__(self) -> None:
        """Check every field, and that a slope is fitted to half of the updates at least."""
        super().__post_init__()
        if self.fit_from is not None and self.fit_from > self.steps / 2:
            raise UsageError(
                f"--fit-from {self.fit_from} is not allowed: give at most half of --steps "
                f"{self.steps}"
            )
