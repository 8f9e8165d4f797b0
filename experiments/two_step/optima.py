"""The exact one-step optima of linear networks: with free rates, equal rates and one rate alone.

Rates of one step are at their best where the training loss after it is least.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.runs.results.intervals import mean_interval, paired_difference
from experiments.two_step.linear_networks import (
    DegenerateStep,
    OneStepResidual,
    best_first_rate,
    best_second_rate,
    draw_networks,
    one_step,
)
from neural_tdc.randomness import generator


class Optimum(NamedTuple):
    """One exact step at its best: training losses relative to that of the start.

    free:  both rates free;  equal: e₁ = e₂;  alone: one layer learns, the better one
    share: the smaller rate's part of the sum at the free optimum
    """

    free: float
    equal: float
    alone: float
    share: float


def _loss(step: OneStepResidual, first: float, second: float) -> float:
    return float(step.residual(first, second).square().sum())


def _alternated(step: OneStepResidual, second: float, rounds: int = 200) -> tuple[float, float]:
    """Descend to a stationary pair of rates, each solved for exactly in turn."""
    first = float(best_first_rate(step, second))
    for _ in range(rounds):
        second, before = float(best_second_rate(step, first)), second
        first = float(best_first_rate(step, second))
        if abs(second - before) <= 1e-12 * (1 + abs(second)):
            break
    return first, second


def _best_equal_rate(step: OneStepResidual) -> float:
    """Return the best e₁ = e₂ = e; by the residual e0 − e(p + q) + e²r the loss is a quartic."""
    slope, bend = -(step.first + step.second), step.both
    coefficients = [
        4 * float((bend * bend).sum()),
        6 * float((bend * slope).sum()),
        2 * float((slope * slope).sum()) + 4 * float((bend * step.start).sum()),
        2 * float((slope * step.start).sum()),
    ]
    roots = np.roots(coefficients)
    real = roots[np.abs(roots.imag) < 1e-9].real
    return min(map(float, real), key=lambda rate: _loss(step, rate, rate))


def optimum(step: OneStepResidual) -> Optimum:
    """Return what one exact step can reach with free, with equal and with one rate alone.

    Raises DegenerateStep where a rate changes nothing on the way to the optimum.
    """
    first, second = float(best_first_rate(step, 0.0)), float(best_second_rate(step, 0.0))
    begun = _loss(step, 0.0, 0.0)
    equal = _best_equal_rate(step)
    pairs = [_alternated(step, start) for start in (0.0, equal, second, 2 * second)]
    best = min(pairs, key=lambda pair: _loss(step, *pair))
    sizes = sorted(map(abs, best))
    return Optimum(
        _loss(step, *best) / begun,
        _loss(step, equal, equal) / begun,
        min(_loss(step, first, 0.0), _loss(step, 0.0, second)) / begun,
        sizes[0] / sum(sizes),
    )


def _gaussian_step(source: torch.Generator, width: int) -> OneStepResidual:
    """Draw a three-layer network and data with nothing orthogonal and no two sizes alike."""
    hidden, top, samples = width + width // 2, 2 * width, 4 * width

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    inputs, teacher = normal(samples, width), normal(width) / width**0.5
    first, second = normal(width, hidden) / hidden**0.5, normal(hidden, top) / top**0.5
    readout = normal(top) / top**0.5
    return one_step(inputs, inputs @ teacher, first, second, readout, 1.0)


def _orthogonal_step(layers: int, source: torch.Generator, width: int) -> OneStepResidual:
    networks = draw_networks(layers, width, 1, source)
    inputs = width**0.5 * torch.eye(width, dtype=torch.float64)
    readout = networks.readout if layers == 2 else networks.readout[0]
    target = inputs @ networks.target[0]
    return one_step(inputs, target, networks.first[0], networks.second[0], readout, networks.scale)


ONE_STEPS: dict[str, Callable[[torch.Generator, int], OneStepResidual]] = {
    "two layers, orthogonal": partial(_orthogonal_step, 2),
    "three layers, orthogonal": partial(_orthogonal_step, 3),
    "three layers, normal": _gaussian_step,
}


def one_step_optima(name: str, width: int, draws: int, seed: int) -> dict[str, Any]:
    """Return the exact one-step optima of many draws of `ONE_STEPS`: means with intervals.

    Degenerate draws are left out; `left_out` is their number.
    """
    optima = []
    for draw in range(draws):
        step = ONE_STEPS[name](generator(seed, "one-step", name, draw), width)
        with contextlib.suppress(DegenerateStep):
            optima.append(optimum(step))
    values = {key: np.array([getattr(each, key) for each in optima]) for key in Optimum._fields}
    intervals = {key: mean_interval(column) for key, column in values.items()}
    intervals["equal_minus_free"] = paired_difference(values["equal"], values["free"])
    entries = {
        key: {end: float(number) for end, number in interval._asdict().items()}
        for key, interval in intervals.items()
    }
    return {**entries, "left_out": draws - len(optima)}
