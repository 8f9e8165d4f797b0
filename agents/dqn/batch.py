"""What a Q-network learns from: a batch of n-step transitions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """Transitions over n steps, or fewer where the value ended or the episode was cut before.

    Of a population, every leaf has the runs as its leading axis.

    observation:       [batch, *observation] s, in the frames' own dtype
    action:            [batch] a
    reward:            [batch] Σ γ^i r_i over the m ≤ n steps
    discount:          [batch] γ^m, or 0 where the game or a life was lost
    next_observation:  [batch, *observation] the observation m steps on; an episode's true last one
    next_number:       [batch] on the host: the number of its last frame, counted from the first
                       that was stored; modulo the replay's rows, the row where it lies
    follows:           [batch] whether the next transition of the batch continues this one, where
                       there are segments; None where every transition is drawn on its own
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    next_number: np.ndarray
    follows: Tensor | None = None


def segment_places(first: Int[np.ndarray, "*segment"], length: int) -> Int[np.ndarray, "*batch"]:
    """Return the places of segments one after another, of which each begins at one of `first`."""
    places = first[..., None] + np.arange(length)
    return places.reshape(*first.shape[:-1], -1)


def segment_name(length: int) -> str:
    """Return what is drawn, in words."""
    return "transition" if length == 1 else f"segment of {length} transitions"


def continued_by_next(ended: Bool[np.ndarray, "*batch"], length: int) -> Bool[np.ndarray, "*batch"]:
    """Return which transitions of segments the next one continues; ended: ends and cuts."""
    last = np.arange(ended.shape[-1]) % length == length - 1
    return ~(ended | last)


def n_step_returns(
    rows: Int[np.ndarray, "*batch step"],
    reward: Float[np.ndarray, "*batch step"],
    terminated: Bool[np.ndarray, " row"],
    cut: Bool[np.ndarray, " row"],
    powers: Float[np.ndarray, " power"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n-step returns, their discounts, and the row of the last step of each; all [*batch].

    rows:             of n steps that follow each other
    reward:           of these steps
    terminated, cut:  of all rows; no step after such a one counts
    powers:           γ^0 to γ^n
    """
    ended = terminated[rows] | cut[rows]
    taken = np.ones(rows.shape, dtype=bool)
    np.logical_not(np.logical_or.accumulate(ended[..., :-1], axis=-1), out=taken[..., 1:])
    total = (reward * taken * powers[:-1]).sum(-1, dtype=np.float32)
    count = taken.sum(-1)
    last = np.take_along_axis(rows, count[..., None] - 1, -1)[..., 0]
    return total, powers[count] * ~terminated[last], last
