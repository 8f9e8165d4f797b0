"""A log: checked arrays of transitions, whatever file they come from.

The arrays have one row per step, in the order of time:

    observation            [time, …]  numbers
    action                 [time]     whole numbers from 0
    reward                 [time]
    terminated, truncated  [time]     whether the step ended its episode, and how
    next_observation       [time, …]  optional: the observation that the step led to
    behaviour_probability  [time]     b(a|s) of the action taken; only needed for another policy

Rows are counted from 0.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

REQUIRED = ("observation", "action", "reward", "terminated", "truncated")
OPTIONAL = ("next_observation", "behaviour_probability")
# Beyond it a number is infinite in float32.
_LARGEST = 3e38


class Log(NamedTuple):
    """The checked arrays of a file.

    observation:   [time, *observation] float32, or float64 where the file has more than float32
    action:        [time] int64
    reward:        [time] float64
    terminated, truncated: [time] bool
    next_observation: as observation, None where the file has none
    behaviour_probability: [time] float64, None where the file has none
    """

    path: Path
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray | None
    behaviour_probability: np.ndarray | None


def checked_log(path: Path, arrays: Mapping[str, np.ndarray]) -> Log:
    """Check the arrays of a file and return them as a log; they are described at the module's top.

    Booleans may be stored as 0 and 1, actions as whole floating-point numbers. Where a step
    terminated, `next_observation` may hold anything. Raises ValueError in one line that names
    file, array and row for whatever is missing or cannot be.
    """
    if missing := [name for name in REQUIRED if name not in arrays]:
        raise ValueError(
            f"{path} has no array {' and no array '.join(missing)}; a log holds "
            f"{', '.join(REQUIRED)}"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"{path}: {name} is an array of {array.dtype}; it must be one of numbers"
            )
        _check_shape(path, name, array, arrays["observation"])
    observation = _numbers(arrays["observation"])
    _check_finite(path, "observation", observation)
    reward = arrays["reward"].astype(np.float64)
    _check_finite(path, "reward", reward)
    action = arrays["action"]
    # Written so that a NaN is wrong too, here and below.
    whole = (action >= 0) & (action == np.floor(action)) & (action < 2**31)
    check_rows(path, "action", action, whole, "it must be a whole number from 0")
    ends = {}
    for name in ("terminated", "truncated"):
        array = arrays[name]
        check_rows(
            path, name, array, (array == 0) | (array == 1), "it must be a boolean, or 0 or 1"
        )
        ends[name] = array.astype(bool)
    following = arrays.get("next_observation")
    if following is not None:
        following = _numbers(following).copy()
        # What stands behind an end has no effect, but a NaN times 0 would have.
        following[ends["terminated"]] = observation[ends["terminated"]]
        _check_finite(path, "next_observation", following)
    chance = arrays.get("behaviour_probability")
    if chance is not None:
        chance = chance.astype(np.float64)
        inside = (chance > 0) & (chance <= 1)
        must = "it must be a probability above 0 and up to 1, that of the action taken"
        check_rows(path, "behaviour_probability", chance, inside, must)
    return Log(
        path,
        observation,
        action.astype(np.int64),
        reward,
        ends["terminated"],
        ends["truncated"],
        following,
        chance,
    )


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return float32, or float64 where the numbers may need it."""
    wide = np.result_type(array.dtype, np.float32).itemsize > 4
    return array.astype(np.float64 if wide else np.float32, copy=False)


def _check_shape(path: Path, name: str, array: np.ndarray, observation: np.ndarray) -> None:
    rows = list(observation.shape)
    if name == "observation":
        if array.ndim < 2 or 0 in array.shape[1:]:
            raise ValueError(
                f"{path}: observation has the shape {rows}; it must be [time, …], with [time, 1] "
                "for a single number"
            )
        if not len(array):
            raise ValueError(f"{path} is empty: observation has the shape {rows}")
        return
    expected = rows if name == "next_observation" else rows[:1]
    if list(array.shape) == expected:
        return
    said = f"{path}: {name} has the shape {list(array.shape)}; it must be {expected}"
    if array.ndim and len(array) < rows[0]:
        said += f": row {len(array)} is missing"
    elif array.ndim and len(array) > rows[0]:
        said += f", as observation has rows: row {rows[0]} is one too many"
    raise ValueError(said)


def check_rows(path: Path, name: str, array: np.ndarray, right: np.ndarray, must: str) -> None:
    """Raise ValueError naming the first row of an array that is not right, and what it must be."""
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"{path}: {name} in row {row} is {array[row]}; {must}")


def _check_finite(path: Path, name: str, array: np.ndarray) -> None:
    flat = array.reshape(len(array), -1)
    right = np.abs(flat) <= _LARGEST
    if right.all():
        return
    row, component = np.argwhere(~right)[0]
    where = f"in row {row}" if array.ndim == 1 else f"in row {row}, component {component},"
    raise ValueError(
        f"{path}: {name} {where} is {flat[row, component]}; it must be finite, up to {_LARGEST:g}"
    )
