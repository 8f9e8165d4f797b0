"""Newton's method: one convex problem of any size, and many small smooth problems at once.

`convex_minimum` takes its directions from the caller, so that a large Hessian is never formed: best
responses. `local_minimum` and `moreau_gradients` form the Hessian of a reduced objective Φ of few
parameters, which may curve downwards, at hundreds of points at once.
"""

import math
import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Function = Callable[[Tensor], Tensor]

# Rounding of a value that comes out of a linear solve, in units of the last place.
_ROUNDING = 1e4
# Step lengths tried at once; the best of them is taken.
_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.001, 0.0)


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, iterations: int
) -> Tensor:
    """Solve Hx = b for a symmetric positive (semi-)definite H given as x → Hx.

    right:     b, of any shape; x has the same
    tolerance: on ‖Hx − b‖, absolute
    Stops early where H shows no curvature along a direction.
    Source: Hestenes and Stiefel (1952).
    """
    solution = torch.zeros_like(right)
    residual = right
    direction = right
    square = residual.square().sum()
    for _ in range(iterations):
        if float(square) <= tolerance**2:
            break
        image = operator(direction)
        curvature = (direction * image).sum()
        if float(curvature) <= 0:
            break
        length = square / curvature
        solution = solution + length * direction
        residual = residual - length * image
        square_next = residual.square().sum()
        direction = residual + square_next / square * direction
        square = square_next
    return solution


def convex_minimum(
    value: Callable[[Tensor], Tensor],
    gradient: Callable[[Tensor], Tensor],
    direction: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    tolerance: float,
    iterations: int,
    strict: bool,
    name: str,
) -> tuple[Tensor, float, int]:
    """Minimise a convex function by Newton's method with a halving line search.

    start:      the first point, of any shape
    direction:  (point, gradient) → Hessian⁻¹ gradient
    tolerance:  on the largest absolute entry of the gradient
    strict:     whether missing the tolerance raises a ValueError or is a RuntimeWarning
    name:       of what is sought, for the message
    Returns the minimum, the largest absolute entry of the gradient there, and the steps taken.
    """
    head = start
    slope = gradient(head)
    residual = float(slope.abs().max())
    taken = 0
    while residual > tolerance and taken < iterations and math.isfinite(residual):
        move = direction(head, slope)
        decrease = float((move * slope).sum())
        present = float(value(head))
        # At the end the decrease drowns in the rounding of the value: allow for that much.
        rounding = 10 * torch.finfo(head.dtype).eps * max(1.0, abs(present))
        length = 1.0
        while length > 1e-10 and not (
            float(value(head - length * move)) <= present - 1e-4 * length * decrease + rounding
        ):
            length /= 2
        head = head - length * move
        slope = gradient(head)
        residual = float(slope.abs().max())
        taken += 1
    if not residual <= tolerance:
        message = (
            f"the {name} did not converge: residual {residual:.1e} above the "
            f"tolerance {tolerance:.1e} after {taken} Newton steps; "
            "allow a larger tolerance, more steps or a larger ridge"
        )
        if strict:
            raise ValueError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return head, residual, taken


def hessian(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function that gives the matrix of second derivatives by the first argument."""
    # Not `torch.func.hessian`: under vmap its forward mode through `torch.linalg.solve` was seen to
    # give wrong numbers (torch 2.13), as was any second derivative of it under `torch.no_grad`.
    return torch.func.jacrev(torch.func.jacrev(function))


def _minima(
    function: Function,
    centres: Float[Tensor, "point size"],
    strength: float,
    tolerance: float,
    iterations: int,
) -> tuple[Tensor, float]:
    """Minimise Φ(w) + strength/2 ‖w − centre‖² from each centre; return minima and residual."""

    def inner(point: Tensor, centre: Tensor) -> Tensor:
        return function(point) + strength / 2 * (point - centre).square().sum()

    value = torch.func.vmap(inner)
    gradient = torch.func.vmap(torch.func.grad(inner))
    second = torch.func.vmap(hessian(inner))
    lengths = centres.new_tensor(_LENGTHS)
    points = centres
    slope = gradient(points, centres)
    for _ in range(iterations):
        if float(slope.norm(dim=1).max()) <= tolerance:
            break
        curvatures, basis = torch.linalg.eigh(second(points, centres))
        # The size of a negative curvature tells how far to go, its sign where: away from saddles.
        size = curvatures.abs()
        size = size.clamp(min=1e-8 * float(size.max()))
        move = (basis @ ((basis.mT @ slope[:, :, None]) / size[:, :, None]))[:, :, 0]
        tried = points[None] - lengths[:, None, None] * move[None]
        values = torch.stack([value(each, centres) for each in tried])
        # Near the end differences drown in rounding: the full step is then as good as any.
        floor = _ROUNDING * torch.finfo(values.dtype).eps * values[-1].abs().clamp(min=1)
        best = torch.where(
            values[0] <= values[-1] + floor, 0, values.nan_to_num(math.inf).argmin(0)
        )
        points = tried[best, torch.arange(len(points), device=points.device)]
        slope = gradient(points, centres)
    return points, float(slope.norm(dim=1).max())


@torch.enable_grad()
def moreau_gradients(
    function: Function,
    points: Float[Tensor, "point size"],
    smoothing: float,
    *,
    tolerance: float = 1e-10,
    iterations: int = 100,
) -> Float[Tensor, "point size"]:
    """Return ∇Φ_τ = (W − Ŵ)/τ at many points of a smooth Φ without constraints.

    function:  Φ: [size] → scalar, twice differentiable by autograd
    smoothing: τ > 0, below 1/(weak convexity of Φ)
    tolerance: on the norm of the inner problem's gradient

    Raises ValueError where τ is not above 0 and where the tolerance is not reached at some point.
    Source: section 3 of arXiv 2605.15530.
    """
    if not math.isfinite(smoothing) or smoothing <= 0:
        raise ValueError(f"the smoothing τ must be finite and above 0, got {smoothing}")
    nearest, residual = _minima(function, points, 1 / smoothing, tolerance, iterations)
    _check(residual, tolerance, "the Moreau envelope")
    return (points - nearest) / smoothing


@torch.enable_grad()
def local_minimum(
    function: Function,
    start: Float[Tensor, " size"],
    *,
    tolerance: float = 1e-11,
    iterations: int = 300,
) -> Float[Tensor, " size"]:
    """Return a local minimum of a smooth function, downhill from a start.

    Raises ValueError where the end is no strict minimum to the tolerance on the gradient's norm.
    """
    found, residual = _minima(function, start[None], 0.0, tolerance, iterations)
    _check(residual, tolerance, "the search for a local minimum")
    least = float(torch.linalg.eigvalsh(hessian(function)(found[0]))[0])
    if least <= 0:
        raise ValueError(f"what was found is not a strict minimum: least curvature {least:.1e}")
    return found[0]


def _check(residual: float, tolerance: float, what: str) -> None:
    if not residual <= tolerance:
        raise ValueError(
            f"{what} did not converge: residual {residual:.1e} above the tolerance {tolerance:.1e}"
        )
