"""Candidates that the noise of the data moves little, by their simulated errors."""

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.lambda_returns import at_both_states, td_errors
from neural_tdc.baselines.search.learned_candidates import (
    LearnedCandidates,
    weighted_value_in_units,
)
from neural_tdc.baselines.search.simulated_errors import simulated_errors

# The largest simulated squared error of a candidate that is used, relative to the least.
_LARGEST = 1.5


def little_moved(
    candidates: LearnedCandidates, weights: Float[Tensor, " candidate"], seed: int
) -> Float[Tensor, " candidate"]:
    """Return equal weights, with the sum 1, of the candidates with small simulated errors.

    weights: of the mean that is taken for the true value function, with the sum 1

    Without any simulated error these are the given weights.
    """
    groups, limits = candidates.groups, candidates.limits_in_units
    held_out = []
    for fold, part in enumerate(candidates.parts):
        of_fold = weighted_value_in_units(groups, weights, [fold])._replace(limits=limits)
        held_out.append(td_errors(*at_both_states(of_fold.__call__, part), part))
    mean = weighted_value_in_units(groups, weights, range(len(candidates.parts)))
    errors = simulated_errors(
        groups,
        candidates.folds,
        mean._replace(limits=limits).__call__,
        torch.cat(held_out),
        seed,
    )
    return shared_by_small(errors, weights)


def shared_by_small(
    errors: Float[Tensor, " candidate"], weights: Float[Tensor, " candidate"]
) -> Float[Tensor, " candidate"]:
    """Return `little_moved` for simulated errors, which are infinite where there are none."""
    small = errors.isfinite() & (errors <= _LARGEST * errors.min())
    return small.to(weights) / small.sum() if bool(small.any()) else weights
