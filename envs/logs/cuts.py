"""Where a log does not continue: next observations that are in no row, and cuts without a mark."""

from typing import NamedTuple

import numpy as np

from envs.logs.checks import blocks, check_finite

# Relative difference of an observation and the same one as `next_observation`.
_ROUNDING = 1e-5


class Successors(NamedTuple):
    """The next observations that are not the following row's observation.

    row:         [k] rows of the log, rising
    observation: [k, …] what these rows led to
    """

    row: np.ndarray
    observation: np.ndarray


def gap_note(source: str, rows: int, gaps: np.ndarray) -> str:
    """Return the line about rows that the next one does not continue though no end is marked."""
    return (
        f"{source}: after {len(gaps):,} of {rows:,} rows, first row {gaps[0]}, another "
        "observation follows than next_observation, though nothing marks an end: these rows "
        "are taken as truncated"
    )


def successors_of(
    source: str, observation: np.ndarray, following: np.ndarray, terminated: np.ndarray
) -> Successors:
    """Return the next observations of rows that did not terminate and are no following row's."""
    found = []
    for begin, block in blocks(following):
        after = observation[begin + 1 : begin + 1 + len(block)]
        differs = np.ones(len(block), dtype=bool)
        differs[: len(after)] = _any(block[: len(after)] != after)
        # What stands behind an end has no effect, but a NaN times 0 would have.
        found.append(begin + (differs & ~terminated[begin : begin + len(block)]).nonzero()[0])
    row = np.concatenate(found)
    kept = following[row]
    check_finite(source, "next_observation", kept, row)
    return Successors(row, kept.astype(np.result_type(kept, observation), copy=False))


def unmarked_cuts(observation: np.ndarray, successors: Successors, ended: np.ndarray) -> np.ndarray:
    """Return the rows without a marked end that the next row does not continue, [gap]."""
    open_rows = ~ended[successors.row] & (successors.row < len(observation) - 1)
    row, said = successors.row[open_rows], successors.observation[open_rows]
    if not len(row):
        return row
    if observation.dtype == np.uint8:
        return row
    size = _largest(observation)
    found = []
    for begin, block in blocks(said):
        rows = row[begin : begin + len(block)]
        found.append(rows[_any(np.abs(observation[rows + 1] - block) > _ROUNDING * size)])
    return np.concatenate(found)


def _largest(observation: np.ndarray) -> np.ndarray:
    """Return the largest absolute value of every component."""
    return np.maximum(observation.max(0), -observation.min(0))


def _any(differs: np.ndarray) -> np.ndarray:
    return np.asarray(differs.reshape(len(differs), -1).any(1))
