"""Split and uniform steps over first step and offset: python -m experiments.convergence.paces.

The descents of `experiments.convergence` with steps α₀((h + k)/h)^(−a): the mean error ‖W − W*‖²
after the last update with the exponents (1, 2/3) of body and head, divided by that with (1, 1), on
the same samples, with its 95 % interval over runs. Below 1 the split is ahead. The last columns are
the two errors.
"""

import argparse
import sys

import numpy as np
import torch

from experiments.convergence.descents import INSTANCES, SCHEDULES, Pace, Population
from experiments.convergence.stochastic_approximation import images
from experiments.runs.results.intervals import Interval, statistic_interval

SPLIT, UNIFORM = (list(SCHEDULES).index(name) for name in ("theorem-3.7", "uniform"))


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


def compare_paces() -> None:
    """Print a table of the instances."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instance", nargs="+", default=list(INSTANCES), choices=list(INSTANCES))
    parser.add_argument("--first-step", nargs="+", type=float, default=[0.05, 0.2, 0.5])
    parser.add_argument("--offset", nargs="+", type=float, default=[1, 20, 300])
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| instance | α₀ | h | split / uniform | error, split | uniform |")
    print("|---|---|---|---|---|---|")
    for name in given.instance:
        for first in given.first_step:
            for offset in given.offset:
                found = body_errors(name, Pace(first, offset), given.runs, given.steps)
                ratio, low, high = ratio_of_means(found[SPLIT], found[UNIFORM])
                said = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
                both = " | ".join(f"{found[index].mean():.2g}" for index in (SPLIT, UNIFORM))
                print(f"| {name} | {first:g} | {offset:g} | {said} | {both} |")
                sys.stdout.flush()


if __name__ == "__main__":
    compare_paces()
