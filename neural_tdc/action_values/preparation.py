"""From a stream with its actions to what a rule of V learns q from."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from neural_tdc.action_values.policies import action_probabilities, drawn_actions
from neural_tdc.action_values.rows import (
    ActionRows,
    ActionWeights,
    action_transitions,
    ratio_on_arrival,
)
from neural_tdc.byte_rows import byte_rows
from neural_tdc.types import Transition, mapped

# Next actions that are drawn for a transition with continuous actions; each use takes one anew.
DRAWS = 8
# Actions over which V is a mean.
STATE_DRAWS = 64


class ActionProblem(NamedTuple):
    """What q is learned from.

    rows:        how an observation and an action become a row
    transitions: [stream, time, …] from rows to rows; with continuous actions the next ones are
        observations alone, flat, to be completed by one of the draws. Of bytes the observations as
        they are
    next_action: [stream, time, draw, action] drawn from π; None with discrete actions
    weights:     [stream, time, action] what completes observations of bytes when they are used;
        None where they are complete
    """

    rows: ActionRows
    transitions: Transition
    next_action: Tensor | None
    weights: ActionWeights | None = None


def action_problem(
    transitions: Transition,
    action: Shaped[Tensor, "stream time *action"],
    policy: Any,
    *,
    given: bool = False,
    seed: int = 0,
) -> ActionProblem:
    """Return what q of a policy is learned from.

    transitions: [stream, time, …] with observations as the policy takes them, or as bytes
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
    flat = byte_rows(after.flatten(0, 1)).to(reward)
    if discrete:
        known = int(action.max()) + 1 if hasattr(policy, "sample") else None
        probability = action_probabilities(policy, flat, known)
        rows = ActionRows(shape, probability.shape[1], given=given)
        following, drawn = probability.view(*reward.shape, rows.size), None
    else:
        if given:
            raise ValueError("continuous actions are an input of a body: features cannot be given")
        drawn = drawn_actions(policy, flat, DRAWS, seed)
        rows = ActionRows(shape, math.prod(action.shape[2:]), discrete=False)
        if drawn.shape[2] != rows.size:
            raise ValueError(
                f"policy returned actions of {drawn.shape[2]} numbers, and the data have "
                f"{rows.size}"
            )
        drawn = drawn.view(*reward.shape, DRAWS, rows.size)
        following = drawn[:, :, 0]
    if after.dtype == torch.uint8:
        weights = ActionWeights(rows, rows.weights(action, reward), following)
        return ActionProblem(rows, transitions, drawn, weights)
    complete = action_transitions(rows, transitions, action, following)
    if drawn is not None:
        complete = complete._replace(next_observation=after.flatten(2))
    return ActionProblem(rows, complete, drawn)


# Returns the observations for numbers [batch].
Observed = Callable[[Tensor], Tensor]


def held_out_rows(
    streams: Transition, problem: ActionProblem | None, begin: int, device: torch.device | str
) -> tuple[Transition, Observed | None]:
    """Return the transitions from a time on, [sample, …], to measure by.

    streams: [stream, time, …]; with values of actions those of the problem
    device:  to measure on

    Rows that are completed when they are used are numbers; the function gives the rows for these.
    """

    def late(leaf: Tensor) -> Tensor:
        return leaf[:, begin:].flatten(0, 1).to(device)

    unseen = mapped(streams, late)
    if problem is None:
        return unseen, None
    unseen = ratio_on_arrival(unseen)
    seen, after = unseen.observation, unseen.next_observation
    if problem.weights is None:
        if problem.next_action is not None:
            after = torch.cat([after, late(problem.next_action)[:, 0]], -1)
        return unseen._replace(next_observation=after), None
    kind, *weights = problem.weights

    def state(place: Tensor) -> Tensor:
        early = place < len(seen)
        found = seen.new_empty(len(place), *seen.shape[1:])
        found[early], found[~early] = seen[place[early]], after[place[~early] - len(seen)]
        return found.to(unseen.reward)

    return numbered_rows(unseen, ActionWeights(kind, *map(late, weights)), state)


def numbered_rows(
    transitions: Transition, weights: ActionWeights, state: Callable[[Tensor], Tensor]
) -> tuple[Transition, Observed]:
    """Return transitions with numbers [sample, 1] for rows, and the rows themselves.

    transitions: [sample, …], whose observations are not read
    weights:     [sample, action] which complete these observations
    state:       from numbers [batch] to observations [batch, …]: s of transition t is number t, and
        s' is number t + samples
    """
    kind, *of_both = weights
    weight, count = torch.cat(of_both), len(transitions.reward)
    place = torch.arange(2 * count, device=weight.device).view(2, count, 1)

    def observed(place: Tensor) -> Tensor:
        return kind.at(state(place), weight[place])

    numbered = transitions._replace(observation=place[0], next_observation=place[1])
    return numbered, observed


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
