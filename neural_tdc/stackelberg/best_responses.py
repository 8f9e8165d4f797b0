"""Best responses θ*(W): the head that is optimal for given features, by the loss.

Ridge regression and the MSPBE have closed forms. The logistic and the softmax loss are solved by
Newton's method to a tolerance on the gradient, and the residual is handed back.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_tdc.stackelberg.newton import conjugate_gradients, convex_minimum

# Below this fraction of the largest eigenvalue an eigenvalue counts as zero.
_SINGULAR = 1e-10


class BestResponse(NamedTuple):
    """A head found by iteration.

    head:       θ*(W), [feature] or [feature, class]
    residual:   the largest absolute entry of the loss's gradient at the head
    iterations: Newton steps taken
    """

    head: Tensor
    residual: float
    iterations: int


def check_ridge(ridge: float) -> None:
    """Raise ValueError unless the ridge λ is finite and not negative."""
    if not math.isfinite(ridge) or ridge < 0:
        raise ValueError(f"the ridge must be finite and not negative, got {ridge}")


def _refuse_singular(matrix: Tensor, scale: Tensor, what: str) -> None:
    eigenvalues = torch.linalg.eigvalsh(matrix.detach())
    cut = max(_SINGULAR, len(matrix) * torch.finfo(matrix.dtype).eps) * float(scale)
    rank = int((eigenvalues > cut).sum())
    if rank < len(matrix):
        raise ValueError(
            f"{what} is singular (rank {rank} of {len(matrix)}), so its best response is not "
            "unique: add a ridge above 0"
        )


def positive_solution(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a positive definite system, also under vmap: no decision depends on values.

    matrix: [*batch, n, n]; right: [*batch, n, k]
    """
    factor, failure = torch.linalg.cholesky_ex(matrix)
    # A failed factor holds plausible numbers; NaN shows at once.
    factor = torch.where(failure == 0, factor, torch.nan)
    return torch.cholesky_solve(right, factor)


def ridge_response(
    features: Float[Tensor, "sample feature"],
    target: Float[Tensor, "sample *output"],
    ridge: float,
) -> Float[Tensor, "feature *output"]:
    """Solve min_θ ‖Zθ − y‖²/(2n) + λ/2 ‖θ‖² in closed form.

    θ* = (ZᵀZ/n + λI)⁻¹Zᵀy/n, or by Woodbury Zᵀ(ZZᵀ/n + λI)⁻¹y/n where samples are fewer than
    features. Differentiable, twice too. With λ > 0 nothing is checked, so that it works under
    `torch.vmap`: a λ lost in the rounding of a singular ZᵀZ gives NaN or a huge head.

    Raises ValueError where λ is negative or not finite, and where λ = 0 and ZᵀZ is singular.
    Source: (8) and (44) of arXiv 2605.15530.
    """
    check_ridge(ridge)
    samples, dimension = features.shape
    columns = target.reshape(samples, -1)
    if samples < dimension and ridge > 0:
        gram = features @ features.mT / samples
        identity = torch.eye(samples, dtype=gram.dtype, device=gram.device)
        solved = features.mT @ positive_solution(gram + ridge * identity, columns / samples)
    else:
        moment = features.mT @ features / samples
        if ridge == 0:
            largest = torch.linalg.matrix_norm(moment.detach(), ord=2)
            _refuse_singular(moment, largest, "the regression on these features")
        identity = torch.eye(dimension, dtype=moment.dtype, device=moment.device)
        solved = positive_solution(moment + ridge * identity, features.mT @ columns / samples)
    return solved.reshape(dimension, *target.shape[1:])


def mspbe_response(
    system: Float[Tensor, "feature feature"],
    moment: Float[Tensor, "feature feature"],
    reward: Float[Tensor, " feature"],
    ridge: float,
) -> Float[Tensor, " feature"]:
    """Solve min_θ ½(b₀ − Aθ)ᵀC⁻¹(b₀ − Aθ) + λ/2 ‖θ‖²: half the MSPBE with a ridge.

    system:  A = ΦᵀD(I − γP)Φ
    moment:  C = ΦᵀDΦ, positive definite (add εI where it is not: else the head is NaN)
    reward:  b₀ = ΦᵀDr
    With λ = 0 this is LSTD, θ = A⁻¹b₀.
    Raises ValueError where λ is negative or not finite, and where λ = 0 and A is singular.
    """
    check_ridge(ridge)
    weighted = positive_solution(moment, system)
    normal = system.mT @ weighted
    if ridge == 0:
        singular_values = torch.linalg.svdvals(system.detach())
        rank = int((singular_values > _SINGULAR * singular_values[0]).sum())
        if rank < len(system):
            raise ValueError(
                f"A is singular (rank {rank} of {len(system)}), so LSTD is not unique: "
                "add a ridge above 0"
            )
        # Not `solve`: with more than 128 features its derivatives under vmap, as `jacrev` takes
        # them, meet the fault that `neural_tdc.linear_systems` is about.
        orthogonal, triangular = torch.linalg.qr(system)
        turned = (orthogonal.mT @ reward)[:, None]
        return torch.linalg.solve_triangular(triangular, turned, upper=True)[:, 0]
    identity = torch.eye(len(system), dtype=system.dtype, device=system.device)
    return positive_solution(normal + ridge * identity, (weighted.mT @ reward)[:, None])[:, 0]


def default_tolerance(dtype: torch.dtype) -> float:
    """Return the tolerance on the gradient that a dtype can reach: 1e-10 in float64, else 1e-5."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def logistic_response(
    features: Float[Tensor, "sample feature"],
    label: Float[Tensor, " sample"],
    ridge: float,
    *,
    start: Float[Tensor, " feature"] | None = None,
    tolerance: float | None = None,
    iterations: int = 100,
    strict: bool = True,
) -> BestResponse:
    """Solve min_θ −mean[y log p + (1−y) log(1−p)] + λ/2 ‖θ‖², p = sigmoid(Zθ), by Newton's method.

    label:     0 or 1
    start:     where to begin, e.g. the last best response; zeros by default
    tolerance: on the largest absolute entry of the gradient; 1e-10 in float64, 1e-5 in float32
    strict:    whether missing the tolerance is an error or a RuntimeWarning

    The head carries no derivative with respect to the features (see `curvature` for that of Φ).
    Raises ValueError for labels other than 0 and 1, a ridge that is negative or not finite, no
    convergence, and, without a ridge, features that are collinear or separate the two classes.
    Source: (11) of arXiv 2605.15530.
    """
    check_ridge(ridge)
    if not bool(((label == 0) | (label == 1)).all()):
        raise ValueError("labels of a logistic best response must be 0 or 1")
    features, samples = features.detach(), len(features)
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)

    def value(head: Tensor) -> Tensor:
        logit = features @ head
        fit = torch.nn.functional.softplus(logit) - label * logit
        return fit.mean() + ridge / 2 * head.square().sum()

    def gradient(head: Tensor) -> Tensor:
        return features.mT @ (torch.sigmoid(features @ head) - label) / samples + ridge * head

    def hessian(head: Tensor) -> Tensor:
        probability = torch.sigmoid(features @ head)
        spread = (probability * (1 - probability))[:, None]
        return features.mT @ (spread * features) / samples + ridge * identity

    def direction(head: Tensor, slope: Tensor) -> Tensor:
        curvature = hessian(head)
        if ridge == 0:
            # p(1 − p) ≤ ¼, so this bounds the curvature from above, saturated or not
            largest = torch.linalg.matrix_norm(features, ord=2).square() / (4 * samples)
            _refuse_singular(curvature, largest, "the logistic regression on these features")
        return positive_solution(curvature, slope[:, None])[:, 0]

    begin = torch.zeros_like(identity[0]) if start is None else start.detach()
    goal = default_tolerance(features.dtype) if tolerance is None else tolerance
    name = "logistic best response"
    found = BestResponse(
        *convex_minimum(value, gradient, direction, begin, goal, iterations, strict, name)
    )
    if ridge == 0 and bool((((features @ found.head) > 0) == (label > 0)).all()):
        # Separated classes push the head to infinity; the gradient vanishes on the way.
        raise ValueError("these features separate the two classes: add a ridge above 0")
    return found


def softmax_response(
    features: Float[Tensor, "sample feature"],
    label: Int[Tensor, " sample"],
    classes: int,
    ridge: float,
    *,
    start: Float[Tensor, "feature class"] | None = None,
    tolerance: float | None = None,
    iterations: int = 100,
    strict: bool = True,
) -> BestResponse:
    """Solve min_Θ −mean log softmax(ZΘ)_y + λ/2 ‖Θ‖² by Newton's method with conjugate gradients.

    label:   0 … classes − 1
    Other arguments as in `logistic_response`. The memory is that of a few [sample, class] and
    [feature, class] matrices: the Hessian is never formed.

    Raises ValueError for a label out of range, no convergence, and a ridge that is not above 0:
    adding one vector to every class changes nothing, so without a ridge no best response is unique.
    """
    check_ridge(ridge)
    if ridge == 0:
        raise ValueError("the softmax best response is not unique without a ridge: add one above 0")
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise ValueError(f"labels must lie between 0 and {classes - 1}")
    features, samples = features.detach(), len(features)
    truth = torch.nn.functional.one_hot(label.long(), classes).to(features.dtype)

    def value(head: Tensor) -> Tensor:
        likelihood = (truth * torch.log_softmax(features @ head, -1)).sum(-1)
        return ridge / 2 * head.square().sum() - likelihood.mean()

    def gradient(head: Tensor) -> Tensor:
        return features.mT @ (torch.softmax(features @ head, -1) - truth) / samples + ridge * head

    def direction(head: Tensor, slope: Tensor) -> Tensor:
        probability = torch.softmax(features @ head, -1)

        def operator(move: Tensor) -> Tensor:
            change = features @ move
            spread = probability * (change - (probability * change).sum(-1, keepdim=True))
            return features.mT @ spread / samples + ridge * move

        size = float(slope.norm())
        # Solving the more exactly the nearer the end makes the outer convergence superlinear.
        return conjugate_gradients(operator, slope, size * min(0.1, size), 10 * slope.numel())

    shape = (features.shape[1], classes)
    begin = features.new_zeros(shape) if start is None else start.detach()
    goal = default_tolerance(features.dtype) if tolerance is None else tolerance
    name = "softmax best response"
    return BestResponse(
        *convex_minimum(value, gradient, direction, begin, goal, iterations, strict, name)
    )
