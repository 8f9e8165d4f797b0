"""The settings of a landscape: those of supervised learning, and where surfaces are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import above, count, one_of, read_by, several
from experiments.runs.command_line.settings import check_effects, settings_from
from experiments.train_supervised.data import TASKS
from experiments.train_supervised.settings import (
    SupervisedSettings,
    check_taken,
    idle_supervised_settings,
    usual_in_words,
    usual_values,
)
from neural_tdc.stackelberg.supervised import SUPERVISED_ARMS


def _odd(number: int) -> None:
    if number % 2 == 0:
        raise ValueError("give an odd number, so that one point is the body")


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings(SupervisedSettings):
    """Draw the surfaces and the curvature of f(·, θ_k) and of Φ while one arm learns.

    The default is the paper's example: a regression whose inputs and true network are standard
    normal, learned by the arm split. All other flags are those of experiments.train_supervised.
    """

    program: ClassVar[str] = "python -m experiments.landscape"

    task: Annotated[str, one_of(TASKS)] = "synthetic"
    """The task: synthetic, friedman, boston, mnist, fashion-mnist or cifar10."""
    arm: Annotated[tuple[str, ...], several, one_of(SUPERVISED_ARMS)] = ("split",)
    """The arm whose iterates are drawn."""
    at: Annotated[tuple[int, ...], several] = (0, 100, 2000)
    """Numbers of updates after which the surfaces of the first seed are drawn; multiples of
    --measure-every."""
    grid: Annotated[int, count(3), read_by(_odd)] = 21
    """Number of points along each direction of a surface, odd, so that the middle point is the
    body."""
    span: Annotated[float, above(0)] = 1.0
    """Extent of a surface on each side of the body, in units of the norm of the body."""
    curvature_every: Annotated[int, count(1)] = 1
    """Measure the curvature at every N-th measurement."""

    def __post_init__(self) -> None:
        """Check every field, that there is one arm, and that the iterations are measured."""
        super().__post_init__()
        if len(self.arm) != 1:
            raise UsageError(f"--arm {' '.join(self.arm)}: give one, whose iterates are drawn")
        every, steps = self.measure_every, self.steps
        for step in self.at:
            if not 0 <= step <= steps or (step % every and step != steps):
                raise UsageError(
                    f"--at {step} is not measured: give multiples of --measure-every {every} up to "
                    f"--steps {steps}"
                )


def read_landscape_settings(argv: Sequence[str]) -> LandscapeSettings:
    """Make the settings of a command line, completed by the task's usual values."""
    given = flags_given([LandscapeSettings], argv, usual_in_words())
    settings = settings_from(LandscapeSettings, usual_values(given), given)
    check_taken(settings.arm, given)
    check_effects(settings, idle_supervised_settings(settings))
    return replace(settings, out=settings.out or Path("runs") / f"landscape-{settings.task}")
