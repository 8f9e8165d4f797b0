"""What a metric is, and what the metrics of one run share."""

from collections.abc import Callable, Set
from functools import cached_property
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from neural_tdc.metrics.projected_error import block_length, covariance_of_sums, update_sums
from neural_tdc.metrics.sampled_truth import best_linear_squares, states_error
from neural_tdc.metrics.samples import Sample
from neural_tdc.metrics.value_errors import (
    Moments,
    Spectrum,
    best_linear,
    expected_update,
    rmsve,
    solve_symmetric,
    spectrum,
    td_fixed_point,
)
from neural_tdc.types import Parameters

# What a metric may need beyond the moments, in the words of a refusal.
NEEDS = {
    "truth": "the true value",
    "action_truth": "the true values of actions, learned with values q",
    "held_out": "transitions that are held out",
    "auxiliary": "a rule that estimates ω*",
}


class TrueValue(NamedTuple):
    """The true value at some states, and the features there.

    features:      [state, d] φ
    weighting:     [state] d, sums to 1
    value:         [state] v
    squared_error: weighted mean of the squared standard errors of v, 0 where v is exact
    """

    features: Tensor
    weighting: Tensor
    value: Tensor
    squared_error: float | Tensor = 0.0


class HeldOut(NamedTuple):
    """Transitions that the learner did not see, and the errors there.

    sample:   the transitions, in rows
    td_error: [row] δ
    updates:  [block, d] sums of wρδφ over blocks of `projected_error.block_length` rows
    """

    sample: Sample
    td_error: Tensor
    updates: Tensor


def held_out_errors(
    sample: Sample,
    feature: Float[Tensor, "row d"],
    value: Float[Tensor, " row"],
    next_value: Float[Tensor, " row"],
    length: int | None = None,
) -> HeldOut:
    """Return the errors at held-out transitions, of the values V at both of their ends.

    length: of a block if not the usual
    """
    td_error = sample.reward + sample.discount * next_value - value
    blocks = length or block_length(len(td_error))
    updates = update_sums(feature, td_error, sample.ratio, sample.weight, blocks)
    return HeldOut(sample, td_error, updates)


class AuxiliaryEstimate(NamedTuple):
    """The auxiliary vector that estimates ω* = (C + εI)⁺E[ρδφ].

    vector:      [d] ω
    regulariser: ε in the units of C (1 for TDRC's κ = 1)
    """

    vector: Tensor
    regulariser: float | Tensor = 0.0


class Measured:
    """One run at one measurement, unbatched, in float64; what several metrics need is kept.

    moments:   A, b₀ and C of the run's features
    truth, action_truth, held_out, auxiliary: None where the problem or the rule has none; with
        values of actions `truth` has the features x(s, π) and so measures V(s) = Σ_aπ(a|s)q(s, a),
        and `action_truth` has x(s, a)

    A diverged run, with a NaN or an infinity anywhere, must never come in: the decompositions
    raise on it, and take the other runs of a batch with them.
    """

    def __init__(
        self,
        parameters: Parameters,
        moments: Moments,
        *,
        truth: TrueValue | None = None,
        action_truth: TrueValue | None = None,
        held_out: HeldOut | None = None,
        auxiliary: AuxiliaryEstimate | None = None,
    ) -> None:
        self.parameters, self.moments = parameters, moments
        self.truth, self.action_truth = truth, action_truth
        self.held_out, self.auxiliary = held_out, auxiliary

    @cached_property
    def spectrum(self) -> Spectrum:
        """Return the eigenvalues and eigenvectors of C."""
        return spectrum(self.moments.C)

    @cached_property
    def expected_update(self) -> Float[Tensor, " d"]:
        """Return b = E[ρδφ] = b₀ − Aθ."""
        return expected_update(self.moments, self.parameters.head)

    @cached_property
    def update_covariance(self) -> Float[Tensor, "d d"]:
        """Return the covariance of b, which held-out transitions estimate."""
        assert self.held_out is not None
        weight = self.held_out.sample.weight
        return covariance_of_sums(self.held_out.updates, weight, block_length(len(weight)))

    @cached_property
    def td_fixed_point(self) -> Float[Tensor, " d"]:
        """Return θ_TD = A⁺b₀."""
        return td_fixed_point(self.moments)

    @cached_property
    def auxiliary_solution(self) -> Float[Tensor, " d"]:
        """Return ω* = (C + εI)⁺b, with the ε of the rule's auxiliary vector."""
        assert self.auxiliary is not None
        return solve_symmetric(self.spectrum, self.expected_update, self.auxiliary.regulariser)

    @cached_property
    def best_linear(self) -> Float[Tensor, " d"]:
        """Return the head whose values are nearest to the truth."""
        assert self.truth is not None
        return best_linear(self.truth.features, self.truth.weighting, self.truth.value)

    @cached_property
    def best_linear_error(self) -> Float[Tensor, ""]:
        """Return the RMSVE of `best_linear`; where the truth is a sample, over all states."""
        assert self.truth is not None
        if self.held_out is None:
            return self.value_error(self.best_linear)
        least = (self.truth.weighting * self.best_linear_squares).sum() - self.truth.squared_error
        return least.clamp(min=0).sqrt()

    @cached_property
    def best_linear_squares(self) -> Float[Tensor, " state"]:
        """Return the squares that `best_linear_error` is the mean of."""
        assert self.truth is not None
        return best_linear_squares(self.truth.features, self.truth.weighting, self.truth.value)

    def value_error(self, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
        """Return the RMSVE of a head on these features."""
        assert self.truth is not None
        return _error_against(self.truth, head)

    def states_error(self, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
        """Return the standard error of that RMSVE over draws of the truth's states."""
        assert self.truth is not None
        squares = (self.truth.features @ head - self.truth.value).square()
        return states_error(squares, self.truth.weighting, self.truth.squared_error)

    def action_value_error(self, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
        """Return the same of q, over pairs of state and action."""
        assert self.action_truth is not None
        return _error_against(self.action_truth, head)


def _error_against(truth: TrueValue, head: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    return rmsve(truth.features @ head, truth.value, truth.weighting, truth.squared_error)


class Metric(NamedTuple):
    """A number that is measured of every run.

    key:      `group/name` in logs and files. Of the group `error` less is better, and step sizes
              can be selected by it
    symbol:   its name in tables
    function: from `Measured` to the number, batched over runs by `torch.vmap`; a program with other
              metrics gives what it measures of a run in place of `Measured`
    needs:    what it cannot be measured without: names of `NEEDS`, or the program's own words
    unit:     in words
    panel:    the row of the figure that has a panel of it, 1 or 2; 0 for none
    title, label: of the panel and, without the unit, of its axis
    dashed:   key of a metric that the panel shows as a dashed line
    linear:   whether the panel's axis is never logarithmic
    columns:  the columns of the final table: "final" and "auc", the mean over a run
    replaces: key of a metric in whose place this one is shown where that one is not measured
    """

    key: str
    symbol: str
    function: Callable[[Any], Any]
    needs: tuple[str, ...] = ()
    unit: str = "units of value"
    panel: int = 0
    title: str = ""
    label: str = ""
    dashed: str | None = None
    linear: bool = False
    columns: tuple[str, ...] = ()
    replaces: str | None = None

    def lacks(self, known: Set[str]) -> list[str]:
        """Return what it needs and is not known, in the words of a refusal."""
        return [NEEDS[need] for need in self.needs if need not in known]
