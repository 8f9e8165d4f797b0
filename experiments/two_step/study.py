"""What `experiments.two_step` computes of its closed forms: maps, windows, and simulations.

Rates are given as multiples of a unit: h² for two layers and h for three, at which one step of the
signal part alone learns the target. A share is e₁/(e₁ + e₂).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.runs.results.intervals import Interval, mean_interval, paired_difference
from experiments.two_step.linear_networks import (
    CLOSED_FORMS,
    LinearNetworks,
    LossForm,
    best_share,
    draw_networks,
    equal_rates_win,
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
