"""Logged data: transitions from a file, and the values of a policy without an environment.

A log is an `.npz` file of arrays with one row a step, in the order in which they were lived:

    observation            [time, …]  numbers
    action                 [time]     whole numbers from 0
    reward                 [time]
    terminated, truncated  [time]     whether the step ended its episode, and how
    next_observation       [time, …]  optional: the observation that the step led to
    behaviour_probability  [time]     b(a|s) of the action taken; only needed for another policy

Rows are counted from 0. Arrays of other names are left alone, and nothing is ever unpickled.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.control.policies import Policy, policy_name, probabilities
from neural_tdc.types import Transition

REQUIRED = ("observation", "action", "reward", "terminated", "truncated")
OPTIONAL = ("next_observation", "behaviour_probability")
# Beyond it a number is infinite in float32.
_LARGEST = 3e38
# Rows that a policy is asked about at a time.
_BLOCK = 4096


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


class LoggedProblem(NamedTuple):
    """A prediction problem that is known by a log alone.

    name:        of the file, without its ending
    discount:    γ
    transition:  leaves [1, time, …] on the CPU: one stream, observations as in `Log`, the rest
        float64
    target:      the policy to evaluate; None for the one that acted
    notes:       lines worth printing, such as how many rows were left out
    """

    name: str
    path: Path
    discount: float
    transition: Transition
    target: Policy | None
    notes: tuple[str, ...]


def read_log(path: Path | str) -> Log:
    """Read and check a file of logged data; the arrays are described at the module's top.

    Booleans may be stored as 0 and 1, actions as whole floating-point numbers. Where a step
    terminated, `next_observation` may hold anything. Raises ValueError in one line that names
    file, array and row for whatever is missing or cannot be.
    """
    path = Path(path)
    arrays = _arrays(path)
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
    _check(path, "action", action, whole, "it must be a whole number from 0")
    ends = {}
    for name in ("terminated", "truncated"):
        array = arrays[name]
        _check(path, name, array, (array == 0) | (array == 1), "it must be a boolean, or 0 or 1")
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
        _check(path, "behaviour_probability", chance, inside, must)
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


def logged_problem(
    path: Path | str, discount: float, policy: Policy | None = None
) -> LoggedProblem:
    """Read a log and return the problem of evaluating a policy from it.

    discount: γ
    policy:   from raw observations [n, …] in float32 to probabilities [n, actions]; the policy
        that acted if not given

    Order is kept: entry t + 1 of the stream continues entry t, or starts an episode, with `first`
    1. The discount is 0 where an episode terminated, and the next observation then repeats the
    observation; it is γ at a truncation. Without `next_observation` in the file it is the next
    row's observation; a truncated step and an unfinished last one then have none, so that they are
    left out and counted. ρ = π(a|s) / behaviour_probability with a policy, 1 without. Raises
    ValueError as `read_log`, for a policy without `behaviour_probability`, and for a policy that
    fails, returns no distribution or knows fewer actions.
    """
    log = read_log(path)
    time = len(log.reward)
    ratio, notes = np.ones(time), []
    if policy is not None:
        ratio = _ratios(log, policy)
        notes.append(
            f"importance ratios of {log.path}: mean {ratio.mean():.3g} (1 is expected), "
            f"largest {ratio.max():.3g}"
        )
    ended = log.terminated | log.truncated
    first = np.ones(time)
    first[1:] = ended[:-1]
    kept = np.ones(time, dtype=bool)
    following = log.next_observation
    if following is None:
        following = np.roll(log.observation, -1, axis=0)
        following[log.terminated] = log.observation[log.terminated]
        kept = log.terminated | ~log.truncated
        kept[-1] = log.terminated[-1]
        if dropped := int((~kept).sum()):
            notes.append(
                f"{log.path}: {dropped:,} of {time:,} rows are left out, since a truncated or "
                "unfinished last step cannot be bootstrapped without next_observation"
            )
        if not kept.any():
            raise ValueError(
                f"{log.path}: no row can be learned from: every step is truncated, or the last "
                "one, and there is no array next_observation"
            )
    leaves = (
        log.observation,
        log.reward,
        discount * (~log.terminated).astype(np.float64),
        following,
        ratio,
        first,
    )
    return LoggedProblem(
        name=log.path.stem,
        path=log.path,
        discount=discount,
        transition=Transition(*(torch.from_numpy(leaf[kept])[None] for leaf in leaves)),
        target=policy,
        notes=tuple(notes),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a log that are in the file."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file, as numpy.savez writes it")
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in (*REQUIRED, *OPTIONAL):
                if name in stored.files:
                    arrays[name] = stored[name]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ValueError(f"{path}: {name} does not fit into memory") from None
    except Exception as error:  # A damaged archive fails in zipfile, zlib or the header's parser.
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} holds pickled objects, which are not loaded; store plain numbers"
            ) from None
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: {name or 'the file'} is damaged: {said}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: {name} is no array, as numpy.savez writes it")
    return arrays


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


def _check(path: Path, name: str, array: np.ndarray, right: np.ndarray, must: str) -> None:
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


def _columns(policy: Policy, observation: np.ndarray, otherwise: int) -> int:
    """Return how many actions a policy knows; a policy that fails is for others to complain of."""
    try:
        shape: Sequence[int] = policy(torch.from_numpy(observation.copy())).shape
    except Exception:
        return otherwise
    return shape[1] if len(shape) == 2 else otherwise


@torch.no_grad()
def _ratios(log: Log, policy: Policy) -> np.ndarray:
    """Return π(a|s) / b(a|s) of the logged actions [time]."""
    if log.behaviour_probability is None:
        raise ValueError(
            f"{log.path} has no array behaviour_probability, which the importance ratios of the "
            f"policy {policy_name(policy)} need"
        )
    first = log.observation[:1].astype(np.float32)
    actions = _columns(policy, first, int(log.action.max()) + 1)
    must = f"the policy {policy_name(policy)} knows {actions} actions, from 0 to {actions - 1}"
    _check(log.path, "action", log.action, log.action < actions, must)
    target = np.empty(len(log.action))
    for begin in range(0, len(target), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        try:
            rows = probabilities(policy, log.observation[block].astype(np.float32), actions)
        except ValueError as error:
            raise ValueError(
                f"{log.path}, rows {begin} to {min(begin + _BLOCK, len(target)) - 1}: {error}"
            ) from error
        target[block] = rows[np.arange(len(rows)), log.action[block]]
    if not target.any():
        raise ValueError(
            f"{log.path}: the policy {policy_name(policy)} never takes the logged action in any "
            "row, so that nothing can be learned of it"
        )
    return target / log.behaviour_probability


def cut(first: Tensor, fraction: float) -> int:
    """Return where the held-out part of a stream begins: its last `fraction`.

    first: [time]; where an episode starts within half a held-out part of that place, the cut is
    there. Raises ValueError where less than two transitions would be left on either side.
    """
    time = len(first)
    begin = time - round(fraction * time)
    starts = first.nonzero().flatten()
    starts = starts[(starts - begin).abs() <= (time - begin) // 2]
    starts = starts[(starts >= 2) & (starts <= time - 2)]
    if len(starts):
        begin = int(starts[(starts - begin).abs().argmin()])
    if not 2 <= begin <= time - 2:
        raise ValueError(
            f"holding out {fraction:g} of {time} transitions leaves {begin} to learn from and "
            f"{time - begin} to judge by; both must be at least 2"
        )
    return begin
