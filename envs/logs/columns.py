"""An opened file of logged data: which arrays it holds, by which names, and how they are read.

Files call the same things differently. What a log needs is looked for under its own name (see
`envs.logs.log`), then under those of D4RL and Minari; a caller may name it. What is not found is
reported with the names that the file has.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from envs.names import closest_names
from neural_tdc.device_memory import check_memory

# Other names of the arrays of a log: those of D4RL, then those of Minari.
ALIASES: dict[str, tuple[str, ...]] = {
    "observation": ("observations",),
    "action": ("actions",),
    "reward": ("rewards",),
    "terminated": ("terminals", "terminations"),
    "truncated": ("timeouts", "truncations"),
    "next_observation": ("next_observations",),
    "behaviour_probability": ("behavior_probability",),
}
# Logarithms of probabilities are turned into them.
LOGARITHMS = ("behaviour_log_probability", "behavior_log_probability", "infos/action_log_probs")
# What others call them: such a name is asked about, never taken, since some mean something else.
_LIKELY: dict[str, tuple[str, ...]] = {
    "observation": ("obs", "state", "states", "s", "x", "features"),
    "action": ("act", "acts", "a", "u"),
    "reward": ("rew", "rews", "r", "cost"),
    "terminated": ("terminal", "termination", "done", "dones", "is_terminal", "end"),
    "truncated": ("timeout", "truncation", "is_last", "time_limit"),
    "next_observation": ("next_obs", "next_state", "next_states", "obs_next", "s_next"),
}
# One number per step, which some files keep in an axis of one.
_OF_STEPS = (
    *("reward", "terminated", "truncated", "episode"),
    *("behaviour_probability", "discount", "ratio"),
)
_SHOWN = 20
_NUMBERED = re.compile(r"(.+)_(\d+)")


class Columns(NamedTuple):
    """An opened file.

    source:  how messages call it
    names:   of all that can be read
    read:    from a name to the array; ValueError in one line where it cannot be read
    size:    from a name to the bytes that the array takes, 0 where it is not known beforehand
    of_scalars: whether it is a table, whose columns are single numbers
    tail:    the observations behind the last rows of episodes that are not in `names`, see `Tail`
    bounds:  the least and the greatest of each number of a continuous action, where they are known
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[str], np.ndarray]
    size: Callable[[str], int]
    of_scalars: bool = False
    tail: "Tail | None" = None
    bounds: tuple[np.ndarray, np.ndarray] | None = None


class Tail(NamedTuple):
    """The observations that follow the last rows of episodes, where a file keeps them apart.

    row:         [episode] the last row of each
    observation: [episode, …]
    """

    row: np.ndarray
    observation: np.ndarray


class NotInFileError(ValueError):
    """An array that a log needs is not in the file.

    guesses: {name of the log's array: the name in the file that it may have}
    """

    def __init__(self, message: str, guesses: Mapping[str, str]) -> None:
        super().__init__(message)
        self.guesses = dict(guesses)


def found_names(columns: Columns, name: str, given: Mapping[str, str]) -> list[str]:
    """Return the names in the file that make up an array of the log; none where it has none.

    given: {name of the log's array: names in the file, separated by commas}
    """
    if name in given:
        wanted = [each.strip() for each in given[name].split(",")]
        for each in wanted:
            if not _is_there(columns, each):
                raise _not_found(columns, {name: each})
        return wanted
    logarithms = LOGARITHMS if name == "behaviour_probability" else ()
    for each in (name, *ALIASES.get(name, ()), *logarithms):
        if each in columns.names:
            return [each]
    return []


def read_array(columns: Columns, name: str, found: Sequence[str]) -> np.ndarray:
    """Return an array of the log, which the file has under one name or in several parts.

    Raises ValueError in one line for parts that do not fit together, and for several rewards.
    """
    if len(found) == 1:
        array = _one(columns, found[0])
        if columns.of_scalars and name in ("observation", "next_observation") and array.ndim == 1:
            array = array[:, None]
    else:
        parts = [_one(columns, each) for each in found]
        shapes = {len(part) for part in parts}
        if len(shapes) > 1 or any(part.ndim > 2 for part in parts):
            listed = ", ".join(f"{each} {list(part.shape)}" for each, part in zip(found, parts))
            raise ValueError(
                f"{columns.source}: {name} is made of {listed}; they must have the same length and "
                "at most one more axis"
            )
        array = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    if name in _OF_STEPS and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if name == "reward" and array.ndim == 2:
        whole, one = ("reward", found[0]) if len(found) > 1 else (found[0], f"{found[0]}_0")
        raise ValueError(
            f"{columns.source}: {whole} has the shape {list(array.shape)}; it must be "
            f"[{len(array)}]: name one of its columns as the cumulant, such as {one}"
        )
    if name == "behaviour_probability" and found[0] in LOGARITHMS and array.dtype.kind == "f":
        array = np.exp(array.astype(np.float64))
    return array


def check_size(columns: Columns, found: Iterable[str]) -> None:
    """Raise ValueError, before anything is read, where it does not fit into memory."""
    sizes = {each: columns.size(each) for each in found}
    total = sum(sizes.values())
    if total:
        largest = max(sizes, key=lambda each: sizes[each])
        check_memory(f"{columns.source} (most of it {largest})", total, "cpu")


def lacking(columns: Columns, names: Sequence[str], holds: str) -> NotInFileError:
    """Return the error of a file without arrays that a log needs; holds: what a log holds."""
    # An array that is another one of a log is not guessed.
    free = [each for each in columns.names if each not in ALIASES]
    guesses = {name: guess for name in names if (guess := _guess(name, free)) is not None}
    said = f"{columns.source} has no array {' and no array '.join(names)}; it has "
    said += f"{_listed(columns.names)}; a log holds {holds}"
    if guesses:
        pairs = [f"{guess} for {name}" for name, guess in guesses.items()]
        said += f"; did you mean {' and '.join(pairs)}?"
    return NotInFileError(said, guesses)


def _not_found(columns: Columns, wanted: Mapping[str, str]) -> ValueError:
    ((name, each),) = wanted.items()
    near = closest_names(each, columns.names)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ValueError(
        f"{columns.source} has no array {each}, which {name} is to be; it has "
        f"{_listed(columns.names)}{hint}"
    )


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no arrays"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _guess(name: str, names: Sequence[str]) -> str | None:
    by_lower = {each.lower(): each for each in names}
    for likely in (*_LIKELY.get(name, ()), *ALIASES.get(name, ())):
        if likely in by_lower:
            return by_lower[likely]
    near = closest_names(name, names)
    return near[0] if near else None


def _is_there(columns: Columns, name: str) -> bool:
    return name in columns.names or _component(columns, name) is not None


def numbered(name: str) -> tuple[str, int] | None:
    """Return array and number of a component that is named as in a table, such as reward_1."""
    match = _NUMBERED.fullmatch(name)
    return None if match is None else (match[1], int(match[2]))


def _component(columns: Columns, name: str) -> tuple[str, int] | None:
    """Return array and number of a component of an array that the file has."""
    found = numbered(name)
    return found if found is not None and found[0] in columns.names else None


def _one(columns: Columns, name: str) -> np.ndarray:
    if name in columns.names:
        return columns.read(name)
    component = _component(columns, name)
    assert component is not None
    whole, number = columns.read(component[0]), component[1]
    if whole.ndim < 2 or number >= math.prod(whole.shape[1:]):
        raise ValueError(
            f"{columns.source}: {component[0]} has the shape {list(whole.shape)} and no component "
            f"{number}"
        )
    return whole.reshape(len(whole), -1)[:, number].copy()
