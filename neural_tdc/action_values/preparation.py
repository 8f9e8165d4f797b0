"""From a stream with its actions to what a rule of V learns q from."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from neural_tdc.action_values.policies import action_probabilities, drawn_actions
from neural_tdc.action_values.rows import ActionRows, action_transitions
from neural_tdc.types import Transition

# Next actions that are drawn for a transition with continuous actions; each use takes one anew.
DRAWS = 8
# Actions over which V is a mean.
STATE_DRAWS = 64


class ActionProblem(NamedTuple):
    """What q is learned from.

    rows:        how an observation and an action become a row
    transitions: [stream, time, …] from rows to rows; with continuous actions the next ones are
        observations alone, flat, to be completed by one of the draws
    next_action: [stream, time, draw, action] drawn from π; None with discrete actions
    """

    rows: ActionRows
    transitions: Transition
    next_action: Tensor | None


def action_problem(
    transitions: Transition,
    action: Shaped[Tensor, "stream time *action"],
    policy: Any,
    *,
    given: bool = False,
    seed: int = 0,
) -> ActionProblem:
    """Return what q of a policy is learned from.

    transitions: [stream, time, …] with observations as the policy takes them
    action:      whole numbers from 0, or floating-point numbers for continuous actions
    policy:      see `neural_tdc.action_values.policies`
    given:       whether the observations are the features φ(s)

    With continuous actions DRAWS next actions are drawn for every transition beforehand. That the
    same few are used again and again leaves q unbiased, as one of them would: the expectation over
    a' at s' is replaced by a mean that is the same in expectation over the data.

    Raises ValueError in one line for what cannot be.
    """
    reward, after = transitions.reward, transitions.next_observation
    shape = tuple(transitions.observation.shape[2:])
    discrete = not action.is_floating_point()
    if action.shape[:2] != reward.shape or action.dim() > (2 if discrete else 3):
        raise ValueError(
            f"action has shape {tuple(action.shape)}; it must be {tuple(reward.shape)}"
            + ("" if discrete else ", followed by the components of an action")
        )
    flat = after.flatten(0, 1)
    if discrete:
        known = int(action.max()) + 1 if hasattr(policy, "sample") else None
        probability = action_probabilities(policy, flat, known)
        rows = ActionRows(shape, probability.shape[1], given=given)
        weights = probability.view(*reward.shape, rows.size)
        return ActionProblem(rows, action_transitions(rows, transitions, action, weights), None)
    if given:
        raise ValueError("continuous actions are an input of a body: features cannot be given")
    drawn = drawn_actions(policy, flat, DRAWS, seed)
    rows = ActionRows(shape, math.prod(action.shape[2:]), discrete=False)
    if drawn.shape[2] != rows.size:
        raise ValueError(
            f"policy returned actions of {drawn.shape[2]} numbers, and the data have {rows.size}"
        )
    drawn = drawn.view(*reward.shape, DRAWS, rows.size)
    complete = action_transitions(rows, transitions, action, drawn[:, :, 0])
    return ActionProblem(rows, complete._replace(next_observation=after.flatten(2)), drawn)


def completed(problem: ActionProblem) -> Transition:
    """Return the transitions with the first of the drawn next actions where they lack one."""
    if problem.next_action is None:
        return problem.transitions
    after = torch.cat([problem.transitions.next_observation, problem.next_action[:, :, 0]], -1)
    return problem.transitions._replace(next_observation=after)


def state_rows(
    rows: ActionRows,
    policy: Any,
    asked: Tensor,
    observation: Tensor,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "draw n row"]:
    """Return rows whose mean value over `draw` is V(s) = Σ_a π(a|s)q(s, a).

    asked:       [n, …] observations as the policy takes them
    observation: [n, *observation] the same as the body takes them
    bounds:      [action] between which continuous actions are executed

    One draw with discrete actions; with continuous ones V is the mean over STATE_DRAWS actions,
    the same draws at every call. Raises ValueError in one line for a policy that fails.
    """
    if rows.discrete:
        return rows.at(observation, policy_weights(policy, asked, rows.size))[None]
    drawn = drawn_actions(policy, asked, STATE_DRAWS, seed=0)
    if bounds is not None:
        drawn = drawn.clamp(*(bound.to(drawn) for bound in bounds))
    spread = observation.expand(STATE_DRAWS, *observation.shape)
    return rows.at(spread, drawn.transpose(0, 1).to(observation))


def policy_weights(policy: Any, asked: Tensor, actions: int) -> Float[Tensor, "n action"]:
    """Return the probabilities π(·|s) of a policy.

    asked: [n, …] observations, as the policy takes them
    Raises ValueError for a policy with another number of actions.
    """
    probability = action_probabilities(policy, asked, actions)
    if probability.shape[1] != actions:
        raise ValueError(
            f"policy knows {probability.shape[1]} actions; these values are of {actions}"
        )
    return probability
