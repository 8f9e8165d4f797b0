"""Split and uniform steps over first step and offset: python -m experiments.convergence.paces."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from experiments.convergence.descents import SCHEDULES, Pace, Population
from experiments.convergence.settings import INSTANCE_NAMES
from experiments.convergence.stochastic_approximation import images
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, parse
from experiments.runs.command_line.requirements import above, count, one_of, several
from experiments.runs.command_line.settings import CheckedSettings
from experiments.runs.results.intervals import Interval, statistic_interval

SPLIT, UNIFORM = (list(SCHEDULES).index(name) for name in ("theorem-3.7", "uniform"))


@dataclass(frozen=True, kw_only=True)
class PaceSettings(CheckedSettings):
    """Compare split with uniform steps over the first step α₀ and the offset h.

    The descents of experiments.convergence with steps α₀((h + k)/h)^(-a): the mean error ‖W - W*‖²
    after the last update with the exponents (1, 2/3) of body and head, divided by that with (1, 1),
    on the same samples, with its 95 % interval over runs. Below 1 the split is ahead. The last
    columns are the two errors.
    """

    program: ClassVar[str] = "python -m experiments.convergence.paces"

    instance: Annotated[tuple[str, ...], several, one_of(INSTANCE_NAMES)] = INSTANCE_NAMES
    """Instances: scalar, regression, chain; one or several."""
    first_step: Annotated[tuple[float, ...], several, above(0)] = (0.05, 0.2, 0.5)
    """Step sizes α₀ of the first update, body and head alike."""
    offset: Annotated[tuple[float, ...], several, above(0)] = (1.0, 20.0, 300.0)
    """Updates h over which the steps hardly decay."""
    runs: Annotated[int, count(2, 100_000)] = 64
    """Runs of each instance."""
    steps: Annotated[int, count(1, 10**9)] = 20_000
    """Updates of each run."""


def body_errors(name: str, pace: Pace, runs: int, steps: int, seed: int = 0) -> np.ndarray:
    """Return ‖W − W*‖² at the end, [schedule, run] for `SCHEDULES`."""
    population = Population(name, pace, runs, seed)
    population.advance(steps)
    body, minima = population.parameters.body, images(population.instance.minimiser)
    distances = (body[:, :, None] - minima).square().flatten(3).sum(3)
    return distances.amin(2).numpy()


def ratio_of_means(first: np.ndarray, second: np.ndarray) -> Interval:
    """Return mean(first)/mean(second) of paired runs, and its interval, on the logarithm."""
    logarithm = statistic_interval(
        np.stack([first, second]), lambda means: np.log(means[0] / means[1])
    )
    return Interval(*(np.exp(end) for end in logarithm))


def compare_paces(argv: Sequence[str]) -> None:
    """Print a table of the instances."""
    settings = parse(PaceSettings, argv)
    torch.set_num_threads(1)
    print("| instance | α₀ | h | split / uniform | error, split | uniform |")
    print("|---|---|---|---|---|---|")
    for name in settings.instance:
        for first in settings.first_step:
            for offset in settings.offset:
                found = body_errors(name, Pace(first, offset), settings.runs, settings.steps)
                ratio, low, high = ratio_of_means(found[SPLIT], found[UNIFORM])
                said = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
                both = " | ".join(f"{found[index].mean():.2g}" for index in (SPLIT, UNIFORM))
                print(f"| {name} | {first:g} | {offset:g} | {said} | {both} |")
                sys.stdout.flush()


if __name__ == "__main__":
    leave(main(compare_paces))
