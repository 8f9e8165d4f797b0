"""One and two steps of gradient descent on linear networks: closed forms and simulation.

Width h = inputs d = samples n, XᵀX = nI, W₁ and W₂ Haar-orthogonal and trained at the rates e₁ and
e₂, loss ‖prediction − target‖²/(2n).

- two layers: prediction XW₁W₂/h, target XB with B = O/√h and O orthogonal;
- three layers: prediction XW₁W₂a/√h, a fixed, target Xb, ‖a‖ = ‖b‖ = 1.

The test loss is the squared error of the linear map, averaged over the initialisation. The closed
forms hold for descent that keeps the signal part of the gradient only, i.e. drops the network's own
output from the error; `simulated_loss` does that and the exact gradient too. Source: arXiv
2606.00340; its published code omits the last term of both one-step forms, see `published_…`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LossForm = Callable[[Tensor, Tensor, int], Tensor]


def two_layer_one_step(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the mean test loss of two layers after one step at the rates e₁ and e₂."""
    cross = 2 * first_rate * second_rate / float(width) ** 5
    return published_two_layer_one_step(first_rate, second_rate, width) + cross


def published_two_layer_one_step(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the same as in the authors' code, without the term 2e₁e₂/h⁵."""
    total, product, width = first_rate + second_rate, first_rate * second_rate, float(width)
    return (total / width**2 - 1) ** 2 + 1 / width + product**2 / width**7


def two_layer_two_steps(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the mean test loss of two layers after two steps at the rates e₁ and e₂."""
    total, product, width = first_rate + second_rate, first_rate * second_rate, float(width)
    growth = 1 + product / width**3
    return (
        growth**4 / width
        + 16 * product**2 / width**7
        + (2 * total * growth / width**2 - 1) ** 2
        + 8 * growth**2 * product / width**5
    )


def three_layer_one_step(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the mean test loss of three layers after one step at the rates e₁ and e₂."""
    cross = 2 * first_rate * second_rate / float(width) ** 3
    return published_three_layer_one_step(first_rate, second_rate, width) + cross


def published_three_layer_one_step(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the same as in the authors' code, without the term 2e₁e₂/h³."""
    total, product, width = first_rate + second_rate, first_rate * second_rate, float(width)
    return (total / width - 1) ** 2 + 1 / width + product**2 / width**4


def three_layer_two_steps(
    first_rate: Float[Tensor, "*grid"], second_rate: Float[Tensor, "*grid"], width: int | float
) -> Float[Tensor, "*grid"]:
    """Return the mean test loss of three layers after two steps at the rates e₁ and e₂."""
    total, product, width = first_rate + second_rate, first_rate * second_rate, float(width)
    return (
        (2 * total * (width + product) / width**2 - 1) ** 2
        + 1 / width
        + 2 * product / width**2
        + 10 * product / width**3
        + 37 * product**2 / width**4
        + 12 * product**3 / width**5
        + product**4 / width**6
        + product**2 / width**3
    )


# The closed form of the mean test loss, by the number of layers and of steps.
CLOSED_FORMS: dict[tuple[int, int], LossForm] = {
    (2, 1): two_layer_one_step,
    (2, 2): two_layer_two_steps,
    (3, 1): three_layer_one_step,
    (3, 2): three_layer_two_steps,
}


def haar_orthogonal(
    draws: int, width: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "draw width width"]:
    """Draw orthogonal matrices uniformly, by QR of normal ones with the signs of R undone.

    Source: Mezzadri (2007).
    """
    normal = torch.randn(draws, width, width, generator=generator, dtype=dtype)
    orthogonal, triangular = torch.linalg.qr(normal)
    return orthogonal * triangular.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]


class LinearNetworks(NamedTuple):
    """Networks before their first step, one a draw.

    first, second: [draw, width, width] W₁, W₂
    readout:       [draw, width, 1] a of three layers, or the identity [width, width] of two
    target:        [draw, width, output] the linear map b or B that is to be learned
    scale:         s, the factor of the prediction: width^(−1/2), or 1/width of two layers
    """

    first: Tensor
    second: Tensor
    readout: Tensor
    target: Tensor
    scale: float


def draw_networks(
    layers: int, width: int, draws: int, generator: torch.Generator
) -> LinearNetworks:
    """Draw networks of two or three layers with their targets, in float64 on the CPU."""
    if layers not in (2, 3):
        raise ValueError(f"linear networks have 2 or 3 layers here, got {layers}")
    first = haar_orthogonal(draws, width, generator)
    second = haar_orthogonal(draws, width, generator)
    if layers == 2:
        target = haar_orthogonal(draws, width, generator) / width**0.5
        return LinearNetworks(
            first, second, torch.eye(width, dtype=torch.float64), target, 1 / width
        )
    vectors = torch.randn(2, draws, width, 1, generator=generator, dtype=torch.float64)
    readout, target = vectors / vectors.norm(dim=2, keepdim=True)
    return LinearNetworks(first, second, readout, target, width**-0.5)


def simulated_loss(
    networks: LinearNetworks, first_rate: float, second_rate: float, steps: int, *, exact: bool
) -> Float[Tensor, " draw"]:
    """Return the test loss ‖sW₁W₂a − b‖² of each network after some steps of descent.

    exact: the gradient of the loss; otherwise its signal part, with the network's own output
           dropped from the error, for which the closed forms hold
    The same networks at several rates give paired comparisons.
    """
    first, second, readout, target, scale = networks
    for _ in range(steps):
        error = -target
        if exact:
            error = error + scale * first @ second @ readout
        back = (error @ readout.mT) @ second.mT
        ahead = first.mT @ (error @ readout.mT)
        first, second = first - first_rate * scale * back, second - second_rate * scale * ahead
    return (scale * first @ second @ readout - target).square().sum((-2, -1))


class DegenerateStep(ValueError):
    """The residual does not depend on a rate, so that no rate is the best."""


class OneStepResidual(NamedTuple):
    """The residual after one exact step, for every pair of rates: e0 − e₁p − e₂q + e₁e₂r.

    Each field is [sample, *output].
    """

    start: Tensor
    first: Tensor
    second: Tensor
    both: Tensor

    def residual(self, first_rate: float | Tensor, second_rate: float | Tensor) -> Tensor:
        """Return prediction − target after one step at the rates e₁ and e₂."""
        return (
            self.start
            - first_rate * self.first
            - second_rate * self.second
            + first_rate * second_rate * self.both
        )


def one_step(
    inputs: Float[Tensor, "sample input"],
    target: Float[Tensor, "sample *output"],
    first: Float[Tensor, "input hidden"],
    second: Float[Tensor, "hidden top"],
    readout: Float[Tensor, "top *output"],
    scale: float,
) -> OneStepResidual:
    """Return the residual after one exact step on ‖sXW₁W₂a − y‖²/(2n), for any initialisation.

    readout: a, held fixed; the identity for two layers
    With Gᵢ = ∂loss/∂Wᵢ: p = sXG₁W₂a, q = sXW₁G₂a, r = sXG₁G₂a. Exact, no average and no limit.
    """
    samples = len(inputs)
    columns = readout.reshape(len(readout), -1)
    error = scale * inputs @ first @ second @ columns - target.reshape(samples, -1)
    outer = scale * inputs.mT @ error @ columns.mT / samples
    first_gradient, second_gradient = outer @ second.mT, first.mT @ outer

    def propagated(lower: Tensor, upper: Tensor) -> Tensor:
        return (scale * inputs @ lower @ upper @ columns).reshape(target.shape)

    return OneStepResidual(
        error.reshape(target.shape),
        propagated(first_gradient, second),
        propagated(first, second_gradient),
        propagated(first_gradient, second_gradient),
    )


def best_first_rate(step: OneStepResidual, second_rate: float) -> Float[Tensor, ""]:
    """Return the e₁ that is best for a given e₂: ⟨e0 − e₂q, p − e₂r⟩/‖p − e₂r‖².

    Raises DegenerateStep where e₁ changes nothing.
    """
    return _best_rate(step.start - second_rate * step.second, step.first - second_rate * step.both)


def best_second_rate(step: OneStepResidual, first_rate: float) -> Float[Tensor, ""]:
    """Return the e₂ that is best for a given e₁: ⟨e0 − e₁p, q − e₁r⟩/‖q − e₁r‖².

    Raises DegenerateStep where e₂ changes nothing.
    """
    return _best_rate(step.start - first_rate * step.first, step.second - first_rate * step.both)


def _best_rate(remaining: Tensor, direction: Tensor) -> Tensor:
    square = direction.square().sum()
    if float(square) == 0:
        raise DegenerateStep("the residual does not depend on this rate: the gradient vanishes")
    return (remaining * direction).sum() / square


def best_share(
    form: LossForm, totals: Float[Tensor, " total"], width: int, points: int = 501
) -> Float[Tensor, " total"]:
    """Return the share e₁/(e₁ + e₂) in [0, ½] with the least loss, for each sum of rates.

    form: a closed form of this module; it is symmetric in the two rates, hence half the range
    ½ means equal rates, 0 that one layer learns alone. Found on a grid of shares.
    """
    shares = torch.linspace(0, 0.5, points, dtype=totals.dtype, device=totals.device)
    first = totals[:, None] * shares
    return shares[form(first, totals[:, None] - first, width).argmin(-1)]


def equal_rates_win(
    form: LossForm, totals: Float[Tensor, " total"], width: int, points: int = 501
) -> Bool[Tensor, " total"]:
    """Say for which sums e₁ + e₂ equal rates have the least loss: the window to be mapped."""
    return best_share(form, totals, width, points) == 0.5
