"""The Moreau envelope, the smooth measure of how far a weakly convex function is from stationary.

Φ_τ(W) = min_{W' ∈ 𝒲} Φ(W') + ‖W' − W‖²/(2τ) with the minimiser Ŵ, ∇Φ_τ(W) = (W − Ŵ)/τ, and
Φ_τ(W) ≤ Φ(W) for W in 𝒲. With τ below 1/(weak convexity) the minimum is unique.
Source: section 3 of arXiv 2605.15530.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


class MoreauEnvelope(NamedTuple):
    """The envelope at one point or, elementwise, at many.

    value:     Φ_τ(W)
    gradient:  ∇Φ_τ(W) = (W − Ŵ)/τ
    minimiser: Ŵ
    residual:  how well Ŵ is known: the norm of the projected gradient step for `moreau_envelope`,
               the width of the last bracket for `scalar_moreau_envelope`
    """

    value: Tensor
    gradient: Tensor
    minimiser: Tensor
    residual: float


def _check_smoothing(smoothing: float) -> None:
    if not math.isfinite(smoothing) or smoothing <= 0:
        raise ValueError(f"the smoothing τ must be finite and above 0, got {smoothing}")


def moreau_envelope(
    function: Callable[[Tensor], Tensor],
    point: Float[Tensor, "*shape"],
    smoothing: float,
    *,
    projection: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-9,
    iterations: int = 10_000,
) -> MoreauEnvelope:
    """Compute Φ_τ and its gradient at one point by projected gradient descent on the inner problem.

    function:   Φ: W → scalar, differentiable by autograd (flatten a pytree first)
    smoothing:  τ > 0, below 1/(weak convexity of Φ)
    projection: onto the convex constraint set 𝒲; none by default
    tolerance:  on ‖W' − Π(W' − g)‖, g the inner gradient; Ŵ is then exact to about
                tolerance/(1/τ − weak convexity), the envelope's gradient to 1/τ times that

    Barzilai-Borwein step lengths, halved until the inner objective falls. At a kink of Φ descent
    stalls: in one dimension `scalar_moreau_envelope` does not mind kinks.
    Raises ValueError where τ is not above 0 and where the tolerance is not reached.
    """
    _check_smoothing(smoothing)
    project = projection if projection is not None else (lambda moved: moved)
    centre = point.detach()

    def inner(moved: Tensor) -> Tensor:
        return function(moved) + (moved - centre).square().sum() / (2 * smoothing)

    evaluate = torch.func.grad_and_value(inner)
    present = project(centre)
    slope, value = evaluate(present)
    length = smoothing
    rounding = 10 * torch.finfo(present.dtype).eps
    residual = math.inf
    for _ in range(iterations):
        residual = float((present - project(present - slope)).norm())
        if residual <= tolerance:
            break
        while True:
            moved = project(present - length * slope)
            step = moved - present
            slope_next, value_next = evaluate(moved)
            # Armijo along the projection arc, up to the rounding of the value
            bound = value + 1e-4 * (slope * step).sum() + rounding * value.abs().clamp(min=1)
            if float(value_next) <= float(bound) or length < 1e-14 * smoothing:
                break
            length /= 2
        change = float((step * (slope_next - slope)).sum())
        length = float(step.square().sum()) / change if change > 0 else smoothing
        # The inner problem is no flatter than it looks from a step this long.
        length = min(length, 1e3 * smoothing) if length > 0 else smoothing
        present, slope, value = moved, slope_next, value_next
    if not residual <= tolerance:
        raise ValueError(
            f"the Moreau envelope did not converge: residual {residual:.1e} above the tolerance "
            f"{tolerance:.1e} after {iterations} iterations; is τ = {smoothing} below "
            "1/(weak convexity), and the function smooth?"
        )
    gradient = (centre - present) / smoothing
    return MoreauEnvelope(value.detach(), gradient.detach(), present.detach(), residual)


def scalar_moreau_envelope(
    function: Callable[[Tensor], Tensor],
    points: Float[Tensor, "*points"],
    smoothing: float,
    low: float,
    high: float,
    tolerance: float = 1e-12,
) -> MoreauEnvelope:
    """Compute Φ_τ and its gradient elementwise for a scalar W on [low, high], kinks or not.

    function: Φ: W → Φ(W), elementwise
    smoothing: τ > 0, below 1/(weak convexity of Φ), so that the inner problem has one minimum

    Golden section. A minimum is flat, so Ŵ is known to about √(rounding · |Φ| · τ) only, near 1e-8
    in float64, however narrow the bracket.
    Raises ValueError where τ is not above 0 or the interval is empty.
    """
    _check_smoothing(smoothing)
    if not low < high:
        raise ValueError(f"the interval [{low}, {high}] is empty")

    def inner(moved: Tensor) -> Tensor:
        return function(moved) + (moved - points).square() / (2 * smoothing)

    left, right = torch.full_like(points, low), torch.full_like(points, high)
    sections = math.ceil(math.log(tolerance / (high - low)) / math.log(_GOLDEN_SECTION))
    inner_left = right - _GOLDEN_SECTION * (right - left)
    inner_right = left + _GOLDEN_SECTION * (right - left)
    value_left, value_right = inner(inner_left), inner(inner_right)
    for _ in range(max(sections, 0)):
        falls = value_right < value_left
        left, right = torch.where(falls, inner_left, left), torch.where(falls, right, inner_right)
        kept = torch.where(falls, inner_right, inner_left)
        kept_value = torch.where(falls, value_right, value_left)
        other = torch.where(
            falls, left + _GOLDEN_SECTION * (right - left), right - _GOLDEN_SECTION * (right - left)
        )
        other_value = inner(other)
        inner_left, inner_right = torch.where(falls, kept, other), torch.where(falls, other, kept)
        value_left = torch.where(falls, kept_value, other_value)
        value_right = torch.where(falls, other_value, kept_value)
    # An end of the interval, where the constraint is active, is approached but never evaluated.
    candidates = torch.stack([(left + right) / 2, torch.full_like(left, low),
                              torch.full_like(left, high)])  # fmt: skip
    values = torch.stack([inner(candidate) for candidate in candidates])
    value, best = values.min(0)
    minimiser = candidates.gather(0, best[None])[0]
    width = float((right - left).max())
    return MoreauEnvelope(value, (points - minimiser) / smoothing, minimiser, width)
