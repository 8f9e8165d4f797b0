"""A log: checked arrays of transitions, from a file of any kind.

The arrays have one row per step, in the order of time:

    observation            [time, …]  numbers
    action                 [time]     whole numbers from 0; or [time, …] continuous, or several
                                      choices a step; only needed for another policy and for values
                                      of actions
    reward                 [time]
    terminated, truncated  [time]     whether the step ended its episode, and how
    next_observation       [time, …]  optional: the observation that the step led to
    episode                [time]     optional: a number that is another one in every episode
    behaviour_probability  [time]     b(a|s) of the action taken, or its density where actions are
                                      continuous; only needed for another policy
    discount               [time]     optional: γ_t of the step, from 0 to 1
    ratio                  [time]     optional: ρ = π(a|s)/b(a|s) of the policy to evaluate

`truncated` may be missing where next_observation or episode are there. Rows are counted from 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from envs.logs.checks import LARGEST_NUMBER, check_finite, check_rows, check_shape
from envs.logs.cuts import Successors, gap_note, successors_of, unmarked_cuts

REQUIRED = ("observation", "reward", "terminated")
OPTIONAL = (
    *("action", "truncated", "next_observation", "episode"),
    *("behaviour_probability", "discount", "ratio"),
)


class Log(NamedTuple):
    """The checked arrays of one or several files.

    source:      how messages call it
    observation: [time, *observation] uint8 where the file has bytes, else float32, or float64
        where it has more than float32
    action:      [time] int64, or [time, …] floating-point numbers; None where it has none
    reward:      [time] float64
    terminated, truncated: [time] bool; truncated also where an episode was found to end unmarked
    successors:  the next observations that no other row has, of rows that did not terminate; None
        where the file has none, so that nothing is known behind a truncated row and the last one
    behaviour_probability, discount, ratio: [time] float64, None where the file has none
    bounds:      of continuous actions, None where they are not known
    notes:       lines worth printing
    """

    source: str
    observation: np.ndarray
    action: np.ndarray | None
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    successors: Successors | None
    behaviour_probability: np.ndarray | None = None
    discount: np.ndarray | None = None
    ratio: np.ndarray | None = None
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    notes: tuple[str, ...] = ()


def checked_log(source: str, arrays: Mapping[str, np.ndarray]) -> Log:
    """Check arrays under the names at the module's top, and return them as a log.

    Booleans may be stored as 0 and 1, actions as whole floating-point numbers. Where a step
    terminated, `next_observation` may hold anything. A row whose next observation is not the
    following row's (by more than 1e-5 of the largest value of a component) though nothing marks an
    end is taken as truncated, and counted in a note. Raises ValueError in one line that names file,
    array and row for anything missing or impossible.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"{source}: {name} is an array of {array.dtype}; it must be one of numbers"
            )
        check_shape(source, name, array, arrays["observation"])
    observation = _numbers(arrays["observation"])
    check_finite(source, "observation", observation)
    reward = arrays["reward"].astype(np.float64)
    check_finite(source, "reward", reward)
    action = _action(source, arrays["action"]) if "action" in arrays else None
    terminated = _marks(source, "terminated", arrays["terminated"])
    notes: list[str] = []
    if "truncated" in arrays:
        truncated = _marks(source, "truncated", arrays["truncated"])
    else:
        truncated = np.zeros(len(reward), dtype=bool)
    if "episode" in arrays:
        episode = arrays["episode"]
        # A missing number would be another one than itself: every row an episode.
        whole = np.isfinite(episode) & (np.floor(episode) == episode)
        check_rows(source, "episode", episode, whole, "it must be the whole number of an episode")
        changes = np.append(episode[1:] != episode[:-1], False)
        truncated = truncated | (changes & ~terminated)
    successors = None
    if "next_observation" in arrays:
        following = _numbers(arrays["next_observation"])
        successors = successors_of(source, observation, following, terminated)
        gaps = unmarked_cuts(observation, successors, terminated | truncated)
        if len(gaps):
            notes.append(gap_note(source, len(reward), gaps))
            truncated = truncated.copy()
            truncated[gaps] = True
    return Log(
        source,
        observation,
        action,
        reward,
        terminated,
        truncated,
        successors,
        _probabilities(source, arrays, action),
        _between(source, arrays, "discount", 1.0, "a number from 0 to 1"),
        _between(source, arrays, "ratio", LARGEST_NUMBER, "a finite number, not negative"),
        notes=tuple(notes),
    )


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return bytes as they are, else float32, or float64 where the numbers may need it."""
    if array.dtype == np.uint8:
        return array
    wide = np.result_type(array.dtype, np.float32).itemsize > 4
    return array.astype(np.float64 if wide else np.float32, copy=False)


def _action(source: str, action: np.ndarray) -> np.ndarray:
    if action.ndim == 2 and action.shape[1] == 1 and action.dtype.kind in "biu":
        action = action[:, 0]
    if action.ndim == 1:
        # Written so that a NaN is wrong too, here and below.
        whole = (action >= 0) & (action == np.floor(action)) & (action < 2**31)
        must = "it must be a whole number from 0; continuous actions have the shape [time, …]"
        check_rows(source, "action", action, whole, must)
        return action.astype(np.int64)
    check_finite(source, "action", action)
    return action.astype(np.float32 if action.dtype == np.float32 else np.float64)


def _marks(source: str, name: str, array: np.ndarray) -> np.ndarray:
    check_rows(source, name, array, (array == 0) | (array == 1), "it must be a boolean, or 0 or 1")
    return array.astype(bool)


def _probabilities(
    source: str, arrays: Mapping[str, np.ndarray], action: np.ndarray | None
) -> np.ndarray | None:
    chance = arrays.get("behaviour_probability")
    if chance is None:
        return None
    chance = chance.astype(np.float64)
    if action is not None and action.ndim > 1:
        inside = (chance > 0) & (chance < np.inf)
        must = "it must be a finite density above 0, that of the action taken"
    else:
        inside = (chance > 0) & (chance <= 1)
        must = "it must be a probability above 0 and up to 1, that of the action taken"
    check_rows(source, "behaviour_probability", chance, inside, must)
    return chance


def _between(
    source: str, arrays: Mapping[str, np.ndarray], name: str, most: float, must: str
) -> np.ndarray | None:
    if name not in arrays:
        return None
    array = arrays[name].astype(np.float64)
    check_rows(source, name, array, (array >= 0) & (array <= most), f"it must be {must}")
    return array
