"""Newton's method on many small smooth problems at once: local minima and Moreau envelopes.

Made for reduced objectives Φ of few parameters, where the dense Hessian is cheap and hundreds of
points are asked for; `moreau.moreau_envelope` is for one point of any size, and the golden section
beside it for scalars with kinks.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Function = Callable[[Tensor], Tensor]

# Rounding of a value that comes out of a linear solve, in units of the last place.
_ROUNDING = 1e4
# Step lengths tried at once; the best of them is taken.
_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.001, 0.0)


def _hessian(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Not `torch.func.hessian`: under vmap its forward mode through `torch.linalg.solve` was seen to
    # give wrong numbers (torch 2.13), as was any second derivative of it under `torch.no_grad`.
    return torch.func.jacrev(torch.func.jacrev(function))


def _newton(
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
    hessian = torch.func.vmap(_hessian(inner))
    lengths = centres.new_tensor(_LENGTHS)
    points = centres
    slope = gradient(points, centres)
    for _ in range(iterations):
        if float(slope.norm(dim=1).max()) <= tolerance:
            break
        curvatures, basis = torch.linalg.eigh(hessian(points, centres))
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
    nearest, residual = _newton(function, points, 1 / smoothing, tolerance, iterations)
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
    found, residual = _newton(function, start[None], 0.0, tolerance, iterations)
    _check(residual, tolerance, "the search for a local minimum")
    least = float(torch.linalg.eigvalsh(_hessian(function)(found[0]))[0])
    if least <= 0:
        raise ValueError(f"what was found is no strict minimum: least curvature {least:.1e}")
    return found[0]


def _check(residual: float, tolerance: float, what: str) -> None:
    if not residual <= tolerance:
        raise ValueError(
            f"{what} did not converge: residual {residual:.1e} above the tolerance {tolerance:.1e}"
        )
