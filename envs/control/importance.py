"""Importance ratios of drawn actions, by probabilities or by densities."""

import math

import numpy as np

from envs.control.actions import Actions, DiscreteActions
from envs.control.policies import Policy, is_sampler, policy_name, probabilities

# The largest ratio that float32 holds.
_LARGEST = 3e38


def importance_ratios(
    actions: Actions,
    target: Policy,
    behaviour: Policy,
    observation: np.ndarray,
    action: np.ndarray,
    limit: float = math.inf,
) -> np.ndarray:
    """Return min(π(a|s) / b(a|s), limit) of the drawn actions [n], by densities or probabilities.

    Raises ValueError for a policy that has neither, a discrete action that the target takes and
    the behaviour never does, a density of the behaviour's own action that is 0, and a ratio that is
    too large for float32.
    """
    if (
        isinstance(actions, DiscreteActions)
        and not is_sampler(target)
        and not is_sampler(behaviour)
    ):
        return np.minimum(_covered_ratios(actions, target, behaviour, observation, action), limit)
    acting = actions.log_densities(behaviour, observation, action)
    wanted = actions.log_densities(target, observation, action)
    for policy, found, lowest in ((behaviour, acting, -math.inf), (target, wanted, None)):
        wrong = np.isnan(found) | (found == math.inf) | (lowest is not None and found == lowest)
        if np.any(wrong):
            row = int(np.argmax(wrong))
            raise ValueError(
                f"the policy {policy_name(policy)} gives the action {action[row].tolist()} the "
                f"log-probability {found[row]} at the observation {observation[row].tolist()}"
            )
    with np.errstate(over="ignore"):
        ratios = np.minimum(np.exp(wanted - acting), limit)
    if ratios.max(initial=0.0) > _LARGEST:
        raise ValueError(
            f"an importance ratio of {policy_name(target)} and {policy_name(behaviour)} is too "
            f"large for float32, e^{float((wanted - acting).max()):.4g}: limit the ratios, or "
            "give a behaviour that is closer to the policy"
        )
    return ratios


def _covered_ratios(
    actions: DiscreteActions,
    target: Policy,
    behaviour: Policy,
    observation: np.ndarray,
    action: np.ndarray,
) -> np.ndarray:
    wanted = probabilities(target, observation, actions.size)
    acting = probabilities(behaviour, observation, actions.size)
    missing = (acting == 0) & (wanted > 0)
    if missing.any():
        row, lacking = np.argwhere(missing)[0]
        raise ValueError(
            f"the behaviour policy {policy_name(behaviour)} never takes action {lacking} "
            f"at the observation {observation[row].tolist()}, where the target policy "
            f"{policy_name(target)} takes it with probability {wanted[row, lacking]:.3g}"
        )
    rows = np.arange(len(action))
    return wanted[rows, action] / acting[rows, action]


def ratio_note(name: str, ratio: np.ndarray, limit: float = math.inf) -> str:
    """Return a line about importance ratios: their mean, the largest, how many were limited.

    The effective sample size is (Σρ)²/Σρ².
    """
    ratio = ratio.astype(np.float64).ravel()
    squares = max(float(np.square(ratio).sum()), 1e-300)
    said = (
        f"importance ratios of {name}: mean {ratio.mean():.3g} (1 is expected), largest "
        f"{ratio.max():.3g}, effective sample size {ratio.sum() ** 2 / squares:,.0f} of "
        f"{len(ratio):,}"
    )
    if limit < math.inf:
        said += f", {int((ratio >= np.float32(limit)).sum()):,} limited to {limit:g}"
    return said
