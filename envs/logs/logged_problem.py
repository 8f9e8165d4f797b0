"""Prediction problems from logged data: the values of a policy without an environment."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.control.actions import Actions
from envs.control.importance import ratio_note
from envs.control.policies import Policy, policy_name
from envs.logs.checks import check_rows
from envs.logs.log import Log
from envs.logs.propensities import ESTIMATE, estimated_propensities
from envs.logs.ratios import action_chances, logged_ratios, settled
from envs.logs.reading import Reading, appended, log_name, read_logs
from neural_tdc.byte_rows import byte_rows
from neural_tdc.types import Transition, mapped

DISCOUNT = 0.99


class LoggedProblem(NamedTuple):
    """A prediction problem that is known by a log alone.

    name:        of the file, without its ending
    source:      how messages call the file, or several
    discount:    γ; the largest where each step has its own
    transition:  leaves [1, time, …] on the CPU: one stream, observations as in `Log`, the rest
        float64; of bytes the observations are row numbers into `table`
    table:       [row, …] uint8, all observations of a log of bytes, such as pictures; else None
    target:      the policy to evaluate; None for the one that acted, or that of the file's ratios
    action:      [1, time, …] the actions taken; None where the file has none
    kind:        of the actions, as the policy knows them; None without a policy
    ratios:      where importance ratios come from: "" for none, "file" or "policy"
    behaviour:   what acted, in words
    notes:       lines worth printing, such as how many rows were left out
    """

    name: str
    source: str
    discount: float
    transition: Transition
    table: Tensor | None
    target: Policy | None
    action: Tensor | None
    kind: Actions | None
    ratios: str
    behaviour: str
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an observation."""
        whole = self.transition.observation[0] if self.table is None else self.table
        return tuple(whole.shape[1:])

    def plain(self, rows: slice = slice(None)) -> Transition:
        """Return rows of the stream with observations as numbers, [1, time, …]; bytes as float32.

        Bytes stay bytes until they are used, see `neural_tdc.byte_rows`.
        """
        part = mapped(self.transition, lambda leaf: leaf[:, rows])
        table = self.table
        if table is None:
            return part
        whole = byte_rows(table).float()
        return part._replace(
            observation=whole[part.observation], next_observation=whole[part.next_observation]
        )


def logged_problem(
    source: Path | str | Sequence[Path | str],
    discount: float | None = None,
    policy: Policy | None = None,
    ratio_limit: float = math.inf,
    *,
    behaviour: Policy | str | None = None,
    ratios: bool = True,
    reading: Reading | None = None,
) -> LoggedProblem:
    """Read a log and return the problem of evaluating a policy from it.

    source:   a file, `minari:ID`, or several that are taken together
    discount: γ. If not given, the file's own array `discount`, or 0.99 where it has none; given
        with such an array, each step has the product of both
    policy:   from raw observations [n, …] in float32 to probabilities [n, actions], or as
        `envs.control.actions` says; the policy that acted if not given, or that of the array
        `ratio` where the file has one
    ratio_limit: importance ratios are lowered to it
    behaviour: the policy that acted, or "estimate": its probabilities are then estimated from the
        log (`envs.logs.propensities`); those of the file if not given
    ratios:   whether importance ratios are needed, and behaviour_probability for them; values of
        actions do without, at λ = 0
    reading:  names of arrays in the file

    Order is kept: entry t + 1 of the stream continues entry t, or starts an episode, with `first`
    1. The discount is 0 where an episode terminated, and the next observation then repeats the
    observation; it is γ at a truncation. Without `next_observation` in the file it is the next
    row's observation; a truncated step and an unfinished last one then have none, so that they are
    left out and counted. ρ = π(a|s) / behaviour_probability with a policy.

    Raises ValueError as `checked_log`, for a policy without `behaviour_probability` or `action`,
    and for a policy that fails, returns no distribution, knows fewer actions or answers differently
    twice.
    """
    sources = [source] if isinstance(source, Path | str) else list(source)
    log = read_logs(sources, reading)
    notes = [*log.notes]
    time, kind, origin = len(log.reward), None, ""
    ratio = np.ones(time)
    if policy is not None:
        kind, faults = settled(log, policy)
        notes += faults
        if ratios:
            chance, told = _behaviour(log, policy, behaviour)
            notes += told
            ratio, origin = logged_ratios(log, policy, kind, chance), "policy"
    elif ratios and log.ratio is not None:
        ratio, origin = log.ratio, "file"
        if not ratio.any():
            raise ValueError(f"{log.source}: ratio is 0 in all rows: nothing can be learned")
    if origin:
        ratio = np.minimum(ratio, ratio_limit)
        notes.append(ratio_note(log.source, ratio, ratio_limit))
    gamma, note = _discounts(log, discount)
    ended = log.terminated | log.truncated
    first = np.ones(time)
    first[1:] = ended[:-1]
    kept, dropped = _kept(log)
    observation, following, table = _observations(log)
    leaves = (observation, log.reward, gamma, following, ratio, first)
    if not kept.all():
        leaves = tuple(leaf[kept] for leaf in leaves)
    return LoggedProblem(
        name=log_name(sources),
        source=log.source,
        discount=float(gamma.max(initial=0.0)) if discount is None else discount,
        transition=Transition(*(torch.from_numpy(leaf)[None] for leaf in leaves)),
        table=table,
        target=policy,
        action=None if log.action is None else torch.from_numpy(log.action[kept])[None],
        kind=kind,
        ratios=origin,
        behaviour=_behaviour_name(behaviour),
        notes=(*notes, *note, *dropped),
    )


def _behaviour_name(behaviour: Policy | str | None) -> str:
    if isinstance(behaviour, str):
        return "estimated"
    return "as logged" if behaviour is None else policy_name(behaviour)


def _behaviour(
    log: Log, policy: Policy, behaviour: Policy | str | None
) -> tuple[np.ndarray, list[str]]:
    """Return b(a|s) of the logged actions [time], and lines about it."""
    if behaviour == ESTIMATE:
        found = estimated_propensities(log)
        return found.probability, [found.note(log.source)]
    if behaviour is not None and not isinstance(behaviour, str):
        kind, faults = settled(log, behaviour)
        chance = action_chances(log, behaviour, kind)
        must = f"the behaviour policy {policy_name(behaviour)} must be able to take logged actions"
        check_rows(log.source, "the action's probability", chance, chance > 0, must)
        return chance, [*faults]
    if behaviour is not None:
        raise ValueError(f"behaviour {behaviour!r} is neither a policy nor {ESTIMATE!r}")
    if log.behaviour_probability is None:
        raise ValueError(
            f"{log.source} has no array behaviour_probability, which the importance ratios of the "
            f"policy {policy_name(policy)} need"
        )
    return log.behaviour_probability, []


def _discounts(log: Log, discount: float | None) -> tuple[np.ndarray, list[str]]:
    """Return γ_t [time], 0 where an episode terminated, and a line where the file has its own."""
    goes_on = (~log.terminated).astype(np.float64)
    if log.discount is None:
        return (DISCOUNT if discount is None else discount) * goes_on, []
    factor = 1.0 if discount is None else discount
    own = factor * log.discount * goes_on
    times = "" if discount is None else f" times {discount:g}"
    return own, [
        f"{log.source}: each step has the discount of the file{times}, {own.mean():.4g} on average "
        f"and {own.max():.4g} at most, 0 in {int((own == 0).sum()):,} of {len(own):,} rows"
    ]


def _observations(log: Log) -> tuple[np.ndarray, np.ndarray, Tensor | None]:
    """Return what every row saw and what it led to; of bytes as row numbers into a table."""
    time, successors = len(log.reward), log.successors
    number = np.arange(time)
    following = np.where(log.terminated, number, np.minimum(number + 1, time - 1))
    if log.observation.dtype == np.uint8:
        table = log.observation
        if successors is not None:
            following[successors.row] = time + np.arange(len(successors.row))
            table = appended(table, successors.observation)
        return number, following, torch.from_numpy(table)
    led = log.observation[following]
    if successors is not None:
        led = led.astype(successors.observation.dtype, copy=False)
        led[successors.row] = successors.observation
    return log.observation, led, None


def _kept(log: Log) -> tuple[np.ndarray, list[str]]:
    """Return which rows can be learned from, and a line where others are left out."""
    if log.successors is not None:
        return np.ones(len(log.reward), dtype=bool), []
    kept = log.terminated | ~log.truncated
    kept[-1] = log.terminated[-1]
    if not kept.any():
        raise ValueError(
            f"{log.source}: no row can be learned from: every step is truncated, or the last "
            "one, and there is no array next_observation"
        )
    dropped = int((~kept).sum())
    if not dropped:
        return kept, []
    return kept, [
        f"{log.source}: {dropped:,} of {len(kept):,} rows are left out, since a truncated or "
        "unfinished last step cannot be bootstrapped without next_observation"
    ]
