"""What `experiments.two_step` computes: closed forms, simulation, windows, exact one-step optima.

Rates are given as multiples of a unit: h² for two layers and h for three, at which one step of the
signal part alone learns the target. A share is e₁/(e₁ + e₂).
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.runs.intervals import Interval, mean_interval, paired_difference
from experiments.two_step.linear_networks import (
    CLOSED_FORMS,
    DegenerateStep,
    LinearNetworks,
    LossForm,
    OneStepResidual,
    best_first_rate,
    best_second_rate,
    best_share,
    draw_networks,
    equal_rates_win,
    one_step,
    published_three_layer_one_step,
    published_two_layer_one_step,
    simulated_loss,
)
from neural_tdc.randomness import generator

LAYERS = (2, 3)
STEPS = (1, 2)
SHARES = (0.0, 0.125, 0.25, 0.375, 0.5)
PUBLISHED: dict[int, LossForm] = {
    2: published_two_layer_one_step,
    3: published_three_layer_one_step,
}
# Small enough to tell the published one-step form from the full one.
SMALL_WIDTH, SMALL_DRAWS = 4, 4000
WINDOW_WIDTHS = tuple(round(2 ** (power / 4)) for power in range(8, 41))


def unit(layers: int, width: int) -> int:
    """Return the unit of the rates."""
    return width**2 if layers == 2 else width


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


class Simulated(NamedTuple):
    """Test losses at one pair of rates, [draw] each: by the signal part, by the exact gradient."""

    signal: np.ndarray
    exact: np.ndarray


def _simulated(networks: LinearNetworks, first: float, second: float, steps: int) -> Simulated:
    return Simulated(
        *(
            simulated_loss(networks, first, second, steps, exact=exact).numpy()
            for exact in (False, True)
        )
    )


def _entries(name: str, interval: Interval) -> dict[str, float]:
    return {
        f"{name}{ending}": float(value) for ending, value in zip(("", "_low", "_high"), interval)
    }


def line_rows(
    layers: int, total: float, width: int, draws: int, seed: int
) -> list[dict[str, float | int]]:
    """Compare closed form and simulation along one sum of rates, the shares on the same networks.

    Each row has the mean losses with their intervals over draws, and the paired differences to
    equal rates: above 0 where equal rates are better.
    """
    networks = draw_networks(layers, width, draws, generator(seed, "two-step", layers, width))
    scale = unit(layers, width)
    rows: list[dict[str, float | int]] = []
    for steps in STEPS:
        found = {
            share: _simulated(networks, share * total * scale, (1 - share) * total * scale, steps)
            for share in SHARES
        }
        for share, losses in found.items():
            first, second = (_number(part * total * scale) for part in (share, 1 - share))
            row: dict[str, float | int] = {
                "layers": layers,
                "steps": steps,
                "width": width,
                "sum": total,
                "share": share,
                "closed_form": float(CLOSED_FORMS[layers, steps](first, second, width)),
                "published": float(PUBLISHED[layers](first, second, width))
                if steps == 1
                else np.nan,
            }
            for kind, values, equal in zip(Simulated._fields, losses, found[0.5]):
                row |= _entries(kind, mean_interval(values))
                row |= _entries(f"{kind}_minus_equal", paired_difference(values, equal))
            rows.append(row)
    return rows


class Map(NamedTuple):
    """The closed form over a grid of rates: loss[i, j] at e₁ = rates[i], e₂ = rates[j] units."""

    rates: Tensor
    loss: Tensor

    def best(self) -> tuple[float, float, float]:
        """Return the rates with the least loss, e₁ not above e₂, and that loss."""
        place = int(self.loss.argmin())
        first, second = sorted(divmod(place, len(self.rates)))
        return float(self.rates[first]), float(self.rates[second]), float(self.loss.min())


def least_loss(layers: int, steps: int, width: int) -> dict[str, float]:
    """Return the least loss of a map and the rates, in units, at which it stands."""
    return dict(zip(("first", "second", "loss"), loss_map(layers, steps, width).best()))


def loss_map(layers: int, steps: int, width: int, points: int = 241, most: float = 1.2) -> Map:
    """Return the closed form of the test loss over (e₁, e₂)."""
    rates = torch.linspace(0, most, points, dtype=torch.float64)
    scaled = rates * unit(layers, width)
    first, second = torch.meshgrid(scaled, scaled, indexing="ij")
    loss = CLOSED_FORMS[layers, steps](first, second, width)
    return Map(rates, loss)


class Window(NamedTuple):
    """Where equal rates win the second step.

    widths: [width];  totals: [total] sums in units;  share: [width, total] the best share
    """

    widths: tuple[int, ...]
    totals: Tensor
    share: Tensor


def window(layers: int, steps: int = 2, widths: Sequence[int] = WINDOW_WIDTHS) -> Window:
    """Return the best share of the closed form for every width and sum."""
    totals = torch.linspace(0.005, 1, 200, dtype=torch.float64)
    form = CLOSED_FORMS[layers, steps]
    shares = [best_share(form, totals * unit(layers, width), width, 201) for width in widths]
    return Window(tuple(widths), totals, torch.stack(shares))


def window_ends(layers: int, steps: int, width: int) -> dict[str, float | None]:
    """Return the `low` and `high` end of the sums, in units, at which equal rates win, or None.

    Beside them `layers` and `width` as given, and `sum_of_least_loss`: the sum at which the best
    share has the least loss of all, and that share.
    """
    totals = torch.linspace(0.001, 2, 2000, dtype=torch.float64)
    scaled, form = totals * unit(layers, width), CLOSED_FORMS[layers, steps]
    wins = equal_rates_win(form, scaled, width, 201)
    shares = best_share(form, scaled, width, 201)
    losses = form(scaled * shares, scaled * (1 - shares), width)
    place = int(losses.argmin())
    inside = totals[wins]
    return {
        "layers": layers,
        "width": width,
        "low": float(inside.min()) if len(inside) else None,
        "high": float(inside.max()) if len(inside) else None,
        "sum_of_least_loss": float(totals[place]),
        "share_of_least_loss": float(shares[place]),
        "least_loss": float(losses[place]),
    }


def published_rows(layers: int, seed: int) -> list[dict[str, float]]:
    """Compare the one-step forms, published and full, with simulation of a small network."""
    width = SMALL_WIDTH
    networks = draw_networks(layers, width, SMALL_DRAWS, generator(seed, "published", layers))
    rows = []
    for total in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        rate = total / 2 * unit(layers, width)
        simulated = mean_interval(simulated_loss(networks, rate, rate, 1, exact=False).numpy())
        rows.append(
            {
                "sum": total,
                "full": float(CLOSED_FORMS[layers, 1](_number(rate), _number(rate), width)),
                "published": float(PUBLISHED[layers](_number(rate), _number(rate), width)),
                **_entries("signal", simulated),
            }
        )
    return rows


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
