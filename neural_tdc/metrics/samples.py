"""Transitions that errors are estimated from, in the order of a stream.

In a stream nearly every next observation is the observation of the following transition. In rows,
each followed by the next, a network computes it once, and φ' is φ one row later: nothing is copied.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.byte_rows import differing
from neural_tdc.metrics.value_errors import Moments
from neural_tdc.types import Transition


class Sample(NamedTuple):
    """Transitions as rows of observations, each from its row to the next one.

    observation: [row + 1, *observation]
    reward, discount, ratio: [row] as in `Transition`
    weight:      [row] share in means, 1 / transitions; 0 for a row that is no transition's
        observation, but the last one of a cut episode
    on_policy:   whether all ratios are 1
    """

    observation: Tensor
    reward: Tensor
    discount: Tensor
    ratio: Tensor
    weight: Tensor
    on_policy: bool


def in_rows(transitions: Transition) -> Sample:
    """Return transitions [sample, …] as rows; it looks at values, so call it once.

    Where a transition terminates, what it leads to does not count and needs no row.
    """
    observation, after = transitions.observation, transitions.next_observation
    count = len(observation)
    cut = torch.ones(count, dtype=torch.bool, device=observation.device)
    cut[:-1] = differing(after[:-1], observation[1:]) & (transitions.discount[:-1] != 0)
    row = torch.arange(count, device=cut.device) + torch.cumsum(cut, 0) - cut.long()
    rows = observation.new_zeros(count + int(cut.sum()), *observation.shape[1:])
    rows[row] = observation
    rows[row[cut] + 1] = after[cut]

    def placed(leaf: Tensor) -> Tensor:
        return leaf.new_zeros(len(rows) - 1).index_copy(0, row, leaf)

    reward, discount, ratio = (
        placed(leaf) for leaf in (transitions.reward, transitions.discount, transitions.ratio)
    )
    weight = placed(torch.full((count,), 1 / count, dtype=torch.float64, device=row.device))
    return Sample(
        rows, reward, discount, ratio, weight, on_policy=bool((transitions.ratio == 1).all())
    )


def sampled_moments(sample: Sample, features: Float[Tensor, "row d"]) -> Moments:
    """Return the means A, b₀, C over transitions drawn by the behaviour policy.

    features: φ at all observations of the sample, one row more than it has transitions' rows
    """
    return moments_between(sample, features[:-1], features[1:])


def moments_between(
    sample: Sample, feature: Float[Tensor, "row d"], next_feature: Float[Tensor, "row d"]
) -> Moments:
    """Return what the rows of a sample, or of a part of it, add to the means A, b₀, C."""
    weighted = feature * sample.weight[:, None]
    C = weighted.mT @ feature
    uncorrected = C
    if not sample.on_policy:
        weighted = weighted * sample.ratio[:, None]
        uncorrected = weighted.mT @ feature
    following = (weighted * sample.discount[:, None]).mT @ next_feature
    return Moments(A=uncorrected - following, b0=weighted.mT @ sample.reward, C=C)


def rows_of(sample: Sample, rows: slice) -> Sample:
    """Return some rows of a sample, with the observation that the last one leads to."""
    seen = sample.observation[rows.start : rows.stop + 1]
    return Sample(
        seen,
        sample.reward[rows],
        sample.discount[rows],
        sample.ratio[rows],
        sample.weight[rows],
        sample.on_policy,
    )
