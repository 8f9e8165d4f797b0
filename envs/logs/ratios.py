"""Importance ratios of logged actions, and the policy that they are of: asked, and checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from envs.control.actions import Actions, BoxActions, DiscreteActions
from envs.control.policies import Policy, is_sampler, policy_name, probabilities
from envs.control.policy_modes import settle
from envs.logs.checks import LARGEST_NUMBER, ROWS_AT_ONCE, blocks, check_rows
from envs.logs.log import Log

# Observations that a policy is tried on.
_TRIED = 3


def logged_action(log: Log, what: str) -> np.ndarray:
    """Return the actions of a log; ValueError where it has none. what: for which they are needed"""
    if log.action is None:
        raise ValueError(f"{log.source} has no array action, which {what} needs")
    return log.action


@torch.no_grad()
def settled(log: Log, policy: Policy) -> tuple[Actions, tuple[str, ...]]:
    """Return the kind of a log's actions as a policy knows them, and a line for each fault mended.

    Its networks are put into eval mode. Raises ValueError for a policy that fails, answers twice
    differently, or knows fewer actions than were logged.
    """
    action = logged_action(log, f"the policy {policy_name(policy)}")
    first = log.observation[:_TRIED].astype(np.float32)
    name = log.source

    def kind() -> Actions:
        if action.ndim > 1:
            return continuous_kind(log, action)
        logged = int(action.max()) + 1
        known = logged if is_sampler(policy) else _columns(policy, first, logged)
        return DiscreteActions(name, known, 0)

    # Before anything else is asked, which could move the statistics of a network in training mode.
    try:
        notes = settle(policy, lambda: kind().answers(policy, first))
    except ValueError as error:
        raise ValueError(f"{name}, rows 0 to {len(first) - 1}: {error}") from error
    found = kind()
    if isinstance(found, DiscreteActions):
        size = found.size
        must = f"the policy {policy_name(policy)} knows {size} actions, from 0 to {size - 1}"
        check_rows(name, "action", action, action < size, must)
    return found, notes


def continuous_kind(log: Log, action: np.ndarray) -> BoxActions:
    """Return the kind of continuous actions: within the bounds that are known, or without any."""
    shape = action.shape[1:]
    low, high = log.bounds or (np.full(shape, -np.inf), np.full(shape, np.inf))
    return BoxActions(log.source, low, high, action.dtype.type)


@torch.no_grad()
def action_chances(log: Log, policy: Policy, kind: Actions) -> np.ndarray:
    """Return the probabilities or densities of a policy for the logged actions, [time].

    Raises ValueError, with the rows, where the policy fails or gives a number that is not finite.
    """
    action = logged_action(log, f"the policy {policy_name(policy)}")
    chances = np.empty(len(action))
    for begin, block in blocks(log.observation):
        rows = slice(begin, begin + len(block))
        try:
            chances[rows] = _chances(policy, kind, block.astype(np.float32), action[rows])
        except ValueError as error:
            end = min(begin + ROWS_AT_ONCE, len(action)) - 1
            raise ValueError(f"{log.source}, rows {begin} to {end}: {error}") from error
    must = f"the policy {policy_name(policy)} must give a finite probability or density"
    check_rows(log.source, "the action's", chances, np.isfinite(chances), must)
    return chances


def _chances(policy: Policy, kind: Actions, seen: np.ndarray, action: np.ndarray) -> np.ndarray:
    if isinstance(kind, DiscreteActions) and not is_sampler(policy):
        # As they are: equal probabilities have a ratio of exactly 1.
        found: np.ndarray = probabilities(policy, seen, kind.size)[np.arange(len(action)), action]
        return found
    return np.exp(kind.log_densities(policy, seen, action))


def logged_ratios(
    log: Log, policy: Policy, kind: Actions, behaviour_probability: np.ndarray
) -> np.ndarray:
    """Return π(a|s) / b(a|s) of the logged actions, [time].

    Raises ValueError for a policy that never takes a logged action, and for ratios beyond float32.
    """
    target = action_chances(log, policy, kind)
    if not target.any():
        raise ValueError(
            f"{log.source}: the policy {policy_name(policy)} never takes the logged action in any "
            "row, so nothing can be learned about it"
        )
    ratio = target / behaviour_probability
    must = f"it is {policy_name(policy)}'s over behaviour_probability and must fit into float32"
    check_rows(log.source, "the ratio", ratio, ratio <= LARGEST_NUMBER, must)
    return ratio


def _columns(policy: Any, observation: np.ndarray, otherwise: int) -> int:
    """Return how many actions a policy knows; a policy that fails is for others to complain of."""
    try:
        given = policy(torch.from_numpy(observation.copy()))
        rows: Any = getattr(given, "probs", given)
        shape: Sequence[int] = rows.shape
    except Exception:
        return otherwise
    return shape[1] if len(shape) == 2 else otherwise
