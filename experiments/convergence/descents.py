"""The descents of `experiments.convergence`: all in step, measured at the same updates."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.convergence.instances import chain_descent, regression_descent, scalar_descent
from experiments.convergence.rates import power_steps
from experiments.convergence.stochastic_approximation import Instance, descend, errors
from neural_tdc.learning.schedules import EXPONENTS, Exponents
from neural_tdc.randomness import generator
from neural_tdc.types import Parameters, StepSizes

SCHEDULES: dict[str, Exponents] = {
    "theorem-3.6": EXPONENTS["general"],
    "theorem-3.7": EXPONENTS["strongly-convex"],
    "uniform": Exponents(1.0, 1.0, 1.0),
}
INSTANCES: dict[str, Callable[[], Instance]] = {
    "scalar": scalar_descent,
    "regression": regression_descent,
    "chain": chain_descent,
}
QUANTITIES = ("moreau", "body", "head")
# Samples are drawn in blocks of this many updates, so that where they are cut changes nothing.
BLOCK = 1000


class Pace(NamedTuple):
    """How fast an instance is descended: the first step of every part, and the steps' offset h."""

    first: float
    offset: float


# So that α₀h times the least curvature of Φ at W* exceeds 1, without which W cannot reach its rate.
PACES = {"scalar": Pace(0.5, 20.0), "regression": Pace(0.2, 200.0), "chain": Pace(0.2, 300.0)}


def measured_updates(updates: int, points: int = 30) -> list[int]:
    """Return the numbers of updates after which to measure: evenly spaced in the logarithm."""
    spaced = np.logspace(1, np.log10(updates), points).round().astype(int)
    return sorted({1, *spaced.tolist(), updates})


class Population:
    """Runs of one instance under every schedule: parameters [schedule, run, …]."""

    def __init__(self, name: str, pace: Pace, runs: int, seed: int) -> None:
        self.name, self.pace = name, pace
        self.instance: Instance = INSTANCES[name]()
        self.parameters = Parameters(
            *(
                part.expand(len(SCHEDULES), runs, *part.shape).clone()
                for part in self.instance.start
            )
        )
        self._sources = [generator(seed, "convergence", name, run) for run in range(runs)]
        self._block = torch.empty(0)
        self.done = 0

    def resume(self, parameters: Parameters, done: int) -> None:
        """Continue from the parameters that so many updates led to."""
        self.parameters, self.done = parameters, done
        # The samples of those updates are drawn once more: it costs little beside descending.
        for _ in range(math.ceil(done / BLOCK)):
            self._draw()

    def _draw(self) -> None:
        drawn = [self.instance.draw(source, BLOCK) for source in self._sources]
        self._block = torch.stack(drawn, 1)

    def _steps(self, updates: Tensor) -> StepSizes:
        columns = zip(*SCHEDULES.values())
        return StepSizes(
            *(
                power_steps(
                    self.pace.first,
                    torch.tensor(column, dtype=torch.float64),
                    self.pace.offset,
                    updates,
                )
                for column in columns
            )
        )

    def advance(self, updates: int) -> None:
        """Descend until so many updates are done."""
        while self.done < updates:
            place = self.done % BLOCK
            if place == 0:
                self._draw()
            end = min(updates, self.done - place + BLOCK)
            steps = self._steps(torch.arange(self.done, end))
            samples = self._block[place : place + end - self.done]
            self.parameters = descend(self.instance, self.parameters, steps, samples)
            self.done = end

    def measure(self, smoothing: float) -> dict[str, np.ndarray]:
        """Return {instance/schedule/quantity: [run]} at the present parameters."""
        body, head, _ = self.parameters
        found = errors(self.instance, body.flatten(0, 1), head.flatten(0, 1), smoothing)
        return {
            f"{self.name}/{schedule}/{quantity}": row.numpy()
            for quantity, values in zip(QUANTITIES, found)
            for schedule, row in zip(SCHEDULES, values.reshape(len(SCHEDULES), -1))
        }


def descents(
    populations: Sequence[Population],
    updates: int,
    smoothing: float,
    on_phase: Callable[[str], object],
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield (updates done, measurements) at the log-spaced updates that are still to come.

    on_phase: is called with what begins: `learn` or `measure`
    """
    done = populations[0].done
    for update in measured_updates(updates):
        if update <= done:
            continue
        values: dict[str, np.ndarray] = {}
        for population in populations:
            on_phase("learn")
            population.advance(update)
            on_phase("measure")
            values |= population.measure(smoothing)
        yield update, values
