"""Choosing between value functions without a truth, from transitions none of them learned from.

On-policy the criterion is the error against returns: mean (G_t − V(s_t))² over states whose return
is complete is the mean squared value error and a constant that is the same for all candidates.
Off-policy no return of the target policy is seen. There a true value function has E[ρδ f(s)] = 0
for every function f, and the candidates themselves are the functions to try: the tournament, after
Liu et al. 2025, arXiv 2502.08021, "Model Selection for Off-policy Policy Evaluation" (the formula
is a reconstruction). Its better half is the first reference of bootstrapped returns (`stacking`).
The TD error alone is a bad criterion, kept here as a control: from V = 0 it rises while values are
learned.
"""

from operator import itemgetter
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural_tdc.baselines.lambda_returns import discounted_returns, td_errors
from neural_tdc.metrics.stacking import stacked_weights
from neural_tdc.metrics.stream_values import StreamValues
from neural_tdc.types import Transition, mapped

# The share of complete returns from which on they alone are the criterion.
_ENOUGH = 0.1
# How many times as long intervals of differences are where returns are bootstrapped, measured on
# twelve designed logs (docs/best-value.md): over episodes alone the error of the reference is
# not in them.
WIDENED = 15.0


class SelectionReturns(NamedTuple):
    """The returns that held-out values are compared with.

    value:     [time]
    usable:    [time] the states whose return may be used
    weights:   [candidate] of the reference, not negative, with the sum 1; None where returns of the
        target policy are seen
    criterion: `returns`, or `bootstrapped returns` where no return of the target policy is seen
    note:      a line worth printing
    """

    value: Float[Tensor, " time"]
    usable: Bool[Tensor, " time"]
    weights: Float[Tensor, " candidate"] | None
    criterion: str
    note: str


def selection_returns(values: StreamValues, transitions: Transition) -> SelectionReturns:
    """Return the returns that candidates are compared with on an ordered stream.

    values: held out, of all candidates, finite

    On-policy these are the discounted returns that are complete. Off-policy, and on-policy where
    hardly any return is complete, they are bootstrapped from a reference value, whose error they
    shrink and do not remove. The reference is first the mean of the better half of the tournament.
    """
    seen = complete_returns(transitions)
    return bootstrapped_returns(values, transitions) if seen is None else seen


def complete_returns(transitions: Transition) -> SelectionReturns | None:
    """Return the returns of the evaluated policy that are seen; None where hardly any is."""
    if not _on_policy(transitions):
        return None
    returns = discounted_returns(transitions)
    share = float(returns.complete.double().mean())
    if share < _ENOUGH:
        return None
    note = f"{share:.1%} of the held-out returns are complete and used"
    return SelectionReturns(returns.value, returns.complete, None, "returns", note)


def _on_policy(transitions: Transition) -> bool:
    return bool((transitions.ratio == 1).all())


def bootstrapped_returns(values: StreamValues, transitions: Transition) -> SelectionReturns:
    """Return the returns that are bootstrapped from a reference, see `selection_returns`."""
    scores = tournament_scores(values, transitions)
    top = scores.argsort()[: (len(scores) + 1) // 2]
    start = torch.zeros_like(scores).index_fill(0, top, 1 / len(top))
    weights, target = stacked_weights(values, transitions, start)
    on_policy = _on_policy(transitions)
    why = "hardly any return is complete" if on_policy else "the data are off-policy"
    note = (
        f"{why}: candidates are compared with returns bootstrapped from their weighted mean, and "
        f"intervals of differences are {WIDENED:g} times as wide as those over episodes"
    )
    everywhere = torch.ones_like(transitions.reward, dtype=torch.bool)
    return SelectionReturns(target, everywhere, weights, "bootstrapped returns", note)


def tournament_scores(values: StreamValues, transitions: Transition) -> Float[Tensor, " candidate"]:
    """Return max_j |mean(ρδ_i V_j)| / rms(V_j) of every candidate i; the true values have 0."""
    time, count = values.value.shape
    square = torch.zeros(count, dtype=torch.float64, device=values.value.device)
    product = square.new_zeros(count, count)
    for rows, value, next_value in values.blocks():
        block = mapped(transitions, itemgetter(rows))
        errors = td_errors(value, next_value, block)
        product.addmm_((block.ratio.to(value)[:, None] * errors).T, value)
        square += value.square().sum(0)
    size = (square / time).sqrt().clamp(min=torch.finfo(square.dtype).tiny)
    return (product / size / time).abs().amax(1)


def td_error_scores(values: StreamValues, transitions: Transition) -> Float[Tensor, " candidate"]:
    """Return √mean ρδ², a bad criterion that serves as a control."""
    total = torch.zeros(values.value.shape[1], dtype=torch.float64, device=values.value.device)
    for rows, value, next_value in values.blocks():
        block = mapped(transitions, itemgetter(rows))
        total += block.ratio.to(value) @ td_errors(value, next_value, block).square()
    return (total / len(values.value)).sqrt()


def effective_sample_size(ratio: Float[Tensor, " time"]) -> float:
    """Return (Σρ)²/Σρ², the number of equally weighted transitions that say as much."""
    total = float(ratio.double().square().sum())
    return float(ratio.double().sum()) ** 2 / total if total > 0 else 0.0


def held_out_scores(values: StreamValues, transitions: Transition) -> Float[Tensor, " candidate"]:
    """Return the mean squared error of every candidate on transitions that it did not see.

    The error is against the returns of `selection_returns`; infinite where a value is not finite.
    """
    finite = values.finite
    scores = torch.full_like(finite, torch.inf, dtype=torch.float64)
    if not bool(finite.any()):
        return scores
    values = values.of(finite)
    returns = selection_returns(values, transitions)
    error = returns.value[returns.usable, None] - values.value[returns.usable]
    scores[finite] = error.square().mean(0)
    return scores
