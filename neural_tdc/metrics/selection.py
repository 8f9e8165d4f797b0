"""Choosing between value functions without a truth, from transitions none of them learned from.

On-policy the criterion is the error against returns: mean (G_t − V(s_t))² over states whose return
is complete is the mean squared value error and a constant that is the same for all candidates.
Off-policy no return of the target policy is seen. There a true value function has E[ρδ f(s)] = 0
for every function f, and the candidates themselves are the functions to try: the tournament, after
Liu et al. 2025, arXiv 2502.08021, "Model Selection for Off-policy Policy Evaluation" (the formula
is a reconstruction). The TD error alone is a bad criterion, kept here as a control: from V = 0 it
rises while values are learned.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural_tdc.baselines.lambda_returns import discounted_returns, lambda_errors, td_errors
from neural_tdc.types import Transition

# The quantile of the normal distribution of a two-sided interval of 95 %.
_NORMAL = 1.959963984540054
# The share of complete returns from which on they alone are the criterion.
_ENOUGH = 0.1
# How often the reference of bootstrapped returns is replaced, and steps of each fit of its weights.
_ROUNDS, _STEPS = 6, 300


class PairedDifference(NamedTuple):
    """How much larger one candidate's error is than another's, with an interval of 95 %."""

    mean: float
    low: float
    high: float


class SelectionReturns(NamedTuple):
    """The returns that held-out values are compared with.

    value:     [time]
    usable:    [time] the states whose return may be used
    weights:   [candidate] of the mean that is nearest to bootstrapped returns, not negative, with
        the sum 1; None where returns of the target policy are seen
    criterion: `returns`, or `bootstrapped returns` where no return of the target policy is seen
    note:      a line worth printing
    """

    value: Float[Tensor, " time"]
    usable: Bool[Tensor, " time"]
    weights: Float[Tensor, " candidate"] | None
    criterion: str
    note: str


def selection_returns(
    value: Float[Tensor, "time candidate"],
    next_value: Float[Tensor, "time candidate"],
    transitions: Transition,
) -> SelectionReturns:
    """Return the returns that candidates are compared with on an ordered stream.

    value, next_value: held-out values of all candidates, finite

    On-policy these are the discounted returns that are complete. Off-policy, and on-policy where
    hardly any return is complete, they are returns with control variates (λ = 1, ratios carried on
    up to 1) around a reference value, whose error they shrink and do not remove. The reference is
    first the mean of the better half of the tournament. Then, in rounds, it is the weighted mean of
    candidates that is nearest to these returns (stacking; Wolpert 1992, Breiman 1996).
    """
    returns = discounted_returns(transitions)
    on_policy = bool((transitions.ratio == 1).all())
    share = float(returns.complete.double().mean())
    if on_policy and share >= _ENOUGH:
        note = f"{share:.1%} of the held-out returns are complete and used"
        return SelectionReturns(returns.value, returns.complete, None, "returns", note)
    scores = tournament_scores(value, next_value, transitions)
    top = scores.argsort()[: (len(scores) + 1) // 2]
    weights = torch.zeros_like(scores).index_fill(0, top, 1 / len(top))
    gram = value.T @ value / len(value)
    target = _bootstrapped(value @ weights, next_value @ weights, transitions)
    for _ in range(_ROUNDS):
        weights = simplex_least_squares(gram, value.T @ target / len(value), weights, _STEPS)
        target = _bootstrapped(value @ weights, next_value @ weights, transitions)
    why = "hardly any return is complete" if on_policy else "the data are off-policy"
    note = f"{why}: candidates are compared with returns bootstrapped from what they agree on"
    everywhere = torch.ones_like(returns.complete)
    return SelectionReturns(target, everywhere, weights, "bootstrapped returns", note)


def _bootstrapped(
    reference: Float[Tensor, " time"],
    next_reference: Float[Tensor, " time"],
    transitions: Transition,
) -> Float[Tensor, " time"]:
    """Return the returns with control variates around a reference value."""
    td_error = td_errors(reference, next_reference, transitions)
    return reference + lambda_errors(td_error, transitions, 1.0, trace_limit=1.0)


def simplex_least_squares(
    gram: Float[Tensor, "item item"],
    product: Float[Tensor, " item"],
    start: Float[Tensor, " item"],
    steps: int,
) -> Float[Tensor, " item"]:
    """Minimise ½wᵀGw − wᵀp over weights that are not negative and sum to 1, from such a start.

    Each step moves weight from one item to another as far as it helps, the pairwise Frank-Wolfe
    method (Lacoste-Julien & Jaggi 2015).
    """
    weights = start.clone()
    for _ in range(steps):
        slope = gram @ weights - product
        better = int(slope.argmin())
        worse = int(torch.where(weights > 0, slope, -torch.inf).argmax())
        gain = float(slope[worse] - slope[better])
        curvature = float(gram[better, better] - 2 * gram[better, worse] + gram[worse, worse])
        if not gain > 0:
            break
        whole = float(weights[worse])
        step = whole if gain >= whole * curvature else gain / curvature
        weights[better] += step
        weights[worse] = whole - step
    return weights


def tournament_scores(
    value: Float[Tensor, "time candidate"],
    next_value: Float[Tensor, "time candidate"],
    transitions: Transition,
) -> Float[Tensor, " candidate"]:
    """Return max_j |mean(ρδ_i V_j)| / rms(V_j) of every candidate i; the true values have 0."""
    weighted = transitions.ratio.to(value)[:, None] * td_errors(value, next_value, transitions)
    test = value / value.square().mean(0).sqrt().clamp(min=torch.finfo(value.dtype).tiny)
    return (weighted.T @ test / len(value)).abs().amax(1)


def td_error_scores(
    value: Float[Tensor, "time candidate"],
    next_value: Float[Tensor, "time candidate"],
    transitions: Transition,
) -> Float[Tensor, " candidate"]:
    """Return √mean ρδ², a bad criterion that serves as a control."""
    errors = td_errors(value, next_value, transitions).square()
    return (transitions.ratio.to(value)[:, None] * errors).mean(0).sqrt()


def effective_sample_size(ratio: Float[Tensor, " time"]) -> float:
    """Return (Σρ)²/Σρ², the number of equally weighted transitions that say as much."""
    total = float(ratio.double().square().sum())
    return float(ratio.double().sum()) ** 2 / total if total > 0 else 0.0


def paired_error_difference(
    error: Float[Tensor, " state"],
    other: Float[Tensor, " state"],
    episode: Int[Tensor, " state"],
) -> PairedDifference:
    """Return the mean of `error` − `other` over states, with an interval over episodes.

    error, other: squared errors of two candidates at the same states

    Episodes are the independent draws: the interval is Student's t of a ratio of sums over them.
    With one episode it is unbounded.
    """
    difference = (error - other).double()
    _, group = episode.unique(return_inverse=True)
    groups = int(group.max()) + 1
    sums = torch.zeros(groups, dtype=torch.float64, device=group.device)
    sizes = sums.index_add(0, group, torch.ones_like(difference))
    sums = sums.index_add(0, group, difference)
    mean = float(difference.mean())
    if groups < 2:
        return PairedDifference(mean, -math.inf, math.inf)
    residual = float((sums - mean * sizes).square().sum())
    deviation = math.sqrt(residual * groups / (groups - 1)) / len(difference)
    half = student_quantile(groups - 1) * deviation
    return PairedDifference(mean, mean - half, mean + half)


def student_quantile(freedom: int) -> float:
    """Return the quantile of Student's t for a two-sided interval of 95 %.

    Exact for one and two degrees of freedom, else Cornish and Fisher's expansion, within 0.4 %.
    """
    if freedom < 1:
        raise ValueError(f"freedom is {freedom}; it must be at least 1")
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return math.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    z, n = _NORMAL, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def equally_good(
    error: Float[Tensor, "state candidate"], episode: Int[Tensor, " state"]
) -> Bool[Tensor, " candidate"]:
    """Tell which candidates' mean errors are within one standard error of the least one.

    error: squared errors at the same states; a candidate with one that is not finite is never good

    The standard error is that of the paired difference to the best candidate, over episodes: what
    the data cannot tell from the best.
    """
    finite = error.isfinite().all(0)
    mean = torch.where(finite, error.mean(0), torch.inf)
    difference = (error - error[:, mean.argmin(), None]).double()
    average = difference.mean(0)
    _, group = episode.unique(return_inverse=True)
    groups = int(group.max()) + 1
    sums = difference.new_zeros(groups, difference.shape[1]).index_add(0, group, difference)
    sizes = difference.new_zeros(groups).index_add(0, group, torch.ones_like(difference[:, 0]))
    residual = (sums - average * sizes[:, None]).square().sum(0) * groups / max(1, groups - 1)
    return finite & (average <= residual.sqrt() / len(error))


def held_out_scores(
    value: Float[Tensor, "time candidate"],
    next_value: Float[Tensor, "time candidate"],
    transitions: Transition,
) -> Float[Tensor, " candidate"]:
    """Return the mean squared error of every candidate on transitions that it did not see.

    The error is against the returns of `selection_returns`; infinite where a value is not finite.
    """
    finite = (value.isfinite() & next_value.isfinite()).all(0)
    scores = torch.full_like(value[0], torch.inf)
    if not bool(finite.any()):
        return scores
    value, next_value = value[:, finite], next_value[:, finite]
    returns = selection_returns(value, next_value, transitions)
    error = returns.value[returns.usable, None] - value[returns.usable]
    scores[finite] = error.square().mean(0)
    return scores
