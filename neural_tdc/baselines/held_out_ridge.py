"""LSTD(λ) with the ridge that is best on held-out parts of the data."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from neural_tdc.baselines.candidates import (
    RIDGES,
    Folds,
    held_out_group_values,
    least_squares_group,
)
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.log_preparation import joined, parts_of
from neural_tdc.metrics.selection import held_out_scores
from neural_tdc.types import Transition

# Parts of the data, each held out once; and the ridge of data with too few episodes for parts.
_PARTS, _USUAL_RIDGE = 4, 1e-3


def ridge_head(
    blocks: list[Block], stream: Transition, decay: float, ridges: Sequence[float] = RIDGES
) -> Float[Tensor, " feature"]:
    """Return the head that LSTD(λ) solves for on all of an ordered stream.

    Its ridge has the least error on parts of the stream that the others' solution did not see. A
    stream of too few episodes for parts takes the ridge 1e-3.
    """
    try:
        parts = parts_of(stream, _PARTS)
    except ValueError:
        everything = Folds([stream], [[0]])
        group = least_squares_group("", everything, [blocks], (decay,), (_USUAL_RIDGE,))
        return group.head[0, 0]
    every = list(range(_PARTS))
    learned = [[part for part in every if part != fold] for fold in every]
    group = least_squares_group(
        "", Folds(parts, [*learned, every]), [blocks] * (_PARTS + 1), (decay,), ridges
    )
    scores = held_out_scores(held_out_group_values([group], parts), joined(parts))
    return group.head[-1, int(scores.argmin())]
