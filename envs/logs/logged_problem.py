"""Prediction problems from logged data: the values of a policy without an environment."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.control.actions import DiscreteActions
from envs.control.importance import ratio_note
from envs.control.policies import Policy, is_sampler, policy_name, probabilities
from envs.control.policy_modes import settle
from envs.control.samplers import sampler_log_probability
from envs.logs.log import Log, check_rows, checked_log
from envs.logs.npz import read_npz
from neural_tdc.types import Transition

# Rows that a policy is asked about at a time.
_BLOCK = 4096
# Relative difference of an observation and the same one as `next_observation`.
_ROUNDING = 1e-5

# One reader per file format, by the ending of the name: from a path to arrays of `envs.logs.log`.
READERS: dict[str, Callable[[Path], Mapping[str, np.ndarray]]] = {".npz": read_npz}


class LoggedProblem(NamedTuple):
    """A prediction problem that is known by a log alone.

    name:        of the file, without its ending
    discount:    γ
    transition:  leaves [1, time, …] on the CPU: one stream, observations as in `Log`, the rest
        float64
    target:      the policy to evaluate; None for the one that acted
    action:      [1, time] the actions taken
    notes:       lines worth printing, such as how many rows were left out
    """

    name: str
    path: Path
    discount: float
    transition: Transition
    target: Policy | None
    action: Tensor
    notes: tuple[str, ...]


def read_log(path: Path | str) -> Log:
    """Read and check a file of logged data, by the reader of its ending or else as `.npz`.

    Raises ValueError in one line that names file, array and row for whatever is missing or wrong.
    """
    path = Path(path)
    return checked_log(path, READERS.get(path.suffix.lower(), read_npz)(path))


def logged_problem(
    path: Path | str,
    discount: float,
    policy: Policy | None = None,
    ratio_limit: float = math.inf,
    *,
    ratios: bool = True,
) -> LoggedProblem:
    """Read a log and return the problem of evaluating a policy from it.

    discount: γ
    policy:   from raw observations [n, …] in float32 to probabilities [n, actions]; the policy
        that acted if not given
    ratio_limit: importance ratios are lowered to it
    ratios:   whether importance ratios are needed, and behaviour_probability for them; values of
        actions do without, at λ = 0

    Order is kept: entry t + 1 of the stream continues entry t, or starts an episode, with `first`
    1. The discount is 0 where an episode terminated, and the next observation then repeats the
    observation; it is γ at a truncation. Without `next_observation` in the file it is the next
    row's observation; a truncated step and an unfinished last one then have none, so that they are
    left out and counted. A row that the next one does not continue is taken as truncated, marked or
    not, and counted where it is not. ρ = π(a|s) / behaviour_probability with a policy, 1 without.

    Raises ValueError as `checked_log`, for a policy without `behaviour_probability`, and for a
    policy that fails, returns no distribution, knows fewer actions or answers differently twice.
    """
    log = read_log(path)
    time = len(log.reward)
    ratio = np.ones(time)
    notes: list[str] = []
    if policy is not None and not ratios:
        notes += _settled(log, policy)[1]
    elif policy is not None:
        ratio, faults = _ratios(log, policy)
        notes += faults
        ratio = np.minimum(ratio, ratio_limit)
        notes.append(ratio_note(str(log.path), ratio, ratio_limit))
    ended = log.terminated | log.truncated
    first = np.ones(time)
    first[1:] = ended[:-1]
    gaps = unmarked_cuts(log)
    first[gaps + 1] = 1
    if len(gaps):
        notes.append(
            f"{log.path}: after {len(gaps):,} of {time:,} rows, first row {gaps[0]}, another "
            "observation follows than next_observation, though nothing marks an end: these rows "
            "are taken as truncated"
        )
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
        action=torch.from_numpy(log.action[kept])[None],
        notes=tuple(notes),
    )


def unmarked_cuts(log: Log) -> np.ndarray:
    """Return the rows that no end is marked at and that the next row does not continue, [gap].

    They can only be found by `next_observation`. Its differences within 1e-5, relative to the
    largest value of the component, are taken as rounding.
    """
    if log.next_observation is None:
        return np.zeros(0, dtype=np.int64)
    size = np.abs(log.observation).max(0)
    found = []
    for begin in range(0, len(log.reward) - 1, _BLOCK):
        after = log.observation[begin + 1 : begin + 1 + _BLOCK]
        said = log.next_observation[begin : begin + len(after)]
        differs = (np.abs(after - said) > _ROUNDING * size).reshape(len(after), -1).any(1)
        ended = (log.terminated | log.truncated)[begin : begin + len(after)]
        found.append(begin + (differs & ~ended).nonzero()[0])
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _columns(policy: Any, observation: np.ndarray, otherwise: int) -> int:
    """Return how many actions a policy knows; a policy that fails is for others to complain of."""
    try:
        given = policy(torch.from_numpy(observation.copy()))
        rows: Any = getattr(given, "probs", given)
        shape: Sequence[int] = rows.shape
    except Exception:
        return otherwise
    return shape[1] if len(shape) == 2 else otherwise


@torch.no_grad()
def _settled(log: Log, policy: Policy) -> tuple[int, tuple[str, ...]]:
    """Return how many actions a policy knows, all logged ones among them, and its mended faults."""
    first = log.observation[:3].astype(np.float32)
    logged = int(log.action.max()) + 1

    def columns() -> int:
        return logged if is_sampler(policy) else _columns(policy, first, logged)

    def answers() -> np.ndarray:
        return DiscreteActions(log.path.stem, columns(), 0).answers(policy, first)

    # Before anything else is asked, which could move the statistics of a network in training mode.
    try:
        notes = settle(policy, answers)
    except ValueError as error:
        raise ValueError(f"{log.path}, rows 0 to {len(first) - 1}: {error}") from error
    actions = columns()
    must = f"the policy {policy_name(policy)} knows {actions} actions, from 0 to {actions - 1}"
    check_rows(log.path, "action", log.action, log.action < actions, must)
    return actions, notes


@torch.no_grad()
def _ratios(log: Log, policy: Policy) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return π(a|s) / b(a|s) of the logged actions [time], and a line for each fault mended."""
    if log.behaviour_probability is None:
        raise ValueError(
            f"{log.path} has no array behaviour_probability, which the importance ratios of the "
            f"policy {policy_name(policy)} need"
        )
    actions, notes = _settled(log, policy)
    target = np.empty(len(log.action))

    def chances(block: slice) -> np.ndarray:
        observation, action = log.observation[block].astype(np.float32), log.action[block]
        if is_sampler(policy):
            return np.exp(sampler_log_probability(policy, observation, action))
        return probabilities(policy, observation, actions)[np.arange(len(action)), action]

    for begin in range(0, len(target), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        try:
            target[block] = chances(block)
        except ValueError as error:
            raise ValueError(
                f"{log.path}, rows {begin} to {min(begin + _BLOCK, len(target)) - 1}: {error}"
            ) from error
    if not target.any():
        raise ValueError(
            f"{log.path}: the policy {policy_name(policy)} never takes the logged action in any "
            "row, so that nothing can be learned of it"
        )
    return target / log.behaviour_probability, notes


def held_out_start(first: Tensor, fraction: float) -> int:
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
            f"{time - begin} to measure on; both must be at least 2"
        )
    return begin
