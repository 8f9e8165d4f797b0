"""Coverage: how often a 95 % interval holds the value that it is for, by simulation.

    python -m experiments.runs.results.coverage

prints the table of docs/statistics.md.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.runs.results.intervals import Interval, interquartile_interval, mean_interval

SIMULATIONS = 2_000
COVERAGE_RESAMPLES = 2_000
RUNS = (2, 3, 5, 9, 10, 20, 50)

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


class RunValues(NamedTuple):
    """Values of runs as they come, with their mean and the mean of their middle half."""

    draw: Draw
    mean: float
    middle: float


def _capped_mean(mean: float, deviation: float, cap: float) -> float:
    """Return the mean of min(X, cap) for a normal X."""
    z = (cap - mean) / deviation
    below = math.erfc(-z / math.sqrt(2)) / 2
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return mean * below - deviation * density + cap * (1 - below)


def _middle_mean(draw: Draw) -> float:
    """Return the mean of the middle half of a population, from a million draws."""
    values = np.sort(draw(np.random.default_rng(1), (1000, 1000)).ravel())
    return float(values[len(values) // 4 : len(values) - len(values) // 4].mean())


def _population(draw: Draw, mean: float) -> RunValues:
    return RunValues(draw, mean, _middle_mean(draw))


@functools.cache
def populations() -> dict[str, RunValues]:
    """Return the populations that are tried, by what they stand for."""
    return {
        "normal, 10 ± 1": _population(lambda g, size: g.normal(10, 1, size), 10.0),
        "skewed, lognormal σ = 0.5": _population(
            lambda g, size: g.lognormal(0, 0.5, size), math.exp(0.125)
        ),
        "very skewed, lognormal σ = 1": _population(
            lambda g, size: g.lognormal(0, 1, size), math.exp(0.5)
        ),
        "capped, min(450 ± 150, 500)": _population(
            lambda g, size: np.minimum(g.normal(450, 150, size), 500),
            _capped_mean(450, 150, 500),
        ),
    }


# What is asked for, by its name in the table: an interval of [simulation, run], and its truth.
INTERVALS: dict[str, tuple[Callable[[np.ndarray], Interval], Callable[[RunValues], float]]] = {
    "mean": (lambda values: mean_interval(values, COVERAGE_RESAMPLES), lambda of: of.mean),
    "mean, on the logarithm": (
        lambda values: mean_interval(values, COVERAGE_RESAMPLES, logarithm=True),
        lambda of: of.mean,
    ),
    "interquartile mean": (
        lambda values: interquartile_interval(values, COVERAGE_RESAMPLES),
        lambda of: of.middle,
    ),
}


def coverage(population: RunValues, kind: str, runs: int, simulations: int = SIMULATIONS) -> float:
    """Return the share of simulations whose interval over some runs contains the true value."""
    interval, truth = INTERVALS[kind]
    values: Float[np.ndarray, "simulation run"] = population.draw(
        np.random.default_rng(runs), (simulations, runs)
    )
    _, low, high = interval(values)
    wanted = truth(population)
    return float(((low <= wanted) & (wanted <= high)).mean())


def coverage_table(simulations: int = SIMULATIONS) -> str:
    """Return the coverages as a Markdown table: a row per population and interval."""
    rows: list[list[Any]] = [["values", "interval of the", *(f"{runs} runs" for runs in RUNS)]]
    rows.append(["---"] * len(rows[0]))
    for name, population in populations().items():
        for kind in INTERVALS:
            shares = (coverage(population, kind, runs, simulations) for runs in RUNS)
            rows.append([name, kind, *(f"{share:.2f}" for share in shares)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(coverage_table())
