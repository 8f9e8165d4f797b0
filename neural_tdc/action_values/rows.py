"""States and actions as rows: the observations from which the rules of V learn values of actions.

With discrete actions q(s, a) = θ_aᵀφ(s), one head an action, is linear in x(s, a) = e_a ⊗ φ(s),
which has φ(s) in block a of as many blocks as there are actions. The next state's expected value is
linear in the same way: Σ_a π(a|s')θ_aᵀφ(s') = θᵀx(s', π) with x(s', π) = π(·|s') ⊗ φ(s'). So a row
is an observation followed by a weight for each action: 1 for the action that was taken and 0 for
the others, or the probabilities of the evaluated policy. `ActionHeads` turns rows into x, and the
tables of learning rules hold for x as they do for φ.

With continuous actions a row is an observation followed by the action's numbers, an input of the
body, and the next action is drawn from the evaluated policy.

No importance ratio weighs an error: the action is given. With λ the ratio of an action weighs what
arrives from before it, m_k = u_k + γ_{k−1}λρ_k m_{k−1} and δ^λ_k = δ_k + γ_kλρ_{k+1}δ^λ_{k+1}.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_tdc.types import MakeBody, Transition


class ActionRows(NamedTuple):
    """How an observation and weights of actions become a row.

    observation_shape: of one observation
    size:     the number of actions, or the numbers of one continuous action
    discrete: whether actions are numbered from 0
    given:    whether observations are the features, so that rows are x(s, a)
    """

    observation_shape: tuple[int, ...]
    size: int
    discrete: bool = True
    given: bool = False

    def at(
        self, observation: Float[Tensor, "..."], weights: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch row"]:
        """Return rows for observations [*batch, *observation].

        weights: of the actions, such as probabilities; or continuous actions
        """
        if self.given:
            return action_blocks(observation, weights)
        flat = observation.flatten(observation.dim() - len(self.observation_shape))
        return torch.cat([flat, weights.to(flat)], -1)

    def observation(self, row: Float[Tensor, "n row"]) -> Float[Tensor, "n ..."]:
        """Return the observations [n, *observation] that are in rows."""
        flat = row.unflatten(1, (self.size, -1)).sum(1) if self.given else row[:, : -self.size]
        return flat.reshape(-1, *self.observation_shape)

    def weights(self, action: Tensor, like: Float[Tensor, "..."]) -> Float[Tensor, "*batch action"]:
        """Return the weights of actions that were taken, in the dtype of `like`.

        action: [*batch] numbers of actions, or continuous actions [*batch, action] or [*batch]

        Raises ValueError for an action that there is not.
        """
        if not self.discrete:
            return action.reshape(*action.shape[: like.dim()], self.size).to(like)
        number = action.long()
        if number.numel() and not 0 <= int(number.min()) <= int(number.max()) < self.size:
            raise ValueError(f"actions are numbered from 0 to {self.size - 1}")
        return nn.functional.one_hot(number, self.size).to(like)


class ActionWeights(NamedTuple):
    """What completes observations to rows, [*batch, action] each.

    rows:      how
    taken:     weights of the actions that were taken at s
    following: weights at s'; of continuous actions those of one draw
    """

    rows: ActionRows
    taken: Tensor
    following: Tensor

    def complete(self, transitions: Transition) -> Transition:
        """Return transitions [*batch, …] from rows to rows."""
        return transitions._replace(
            observation=self.rows.at(transitions.observation, self.taken),
            next_observation=self.rows.at(transitions.next_observation, self.following),
        )


def action_blocks(
    feature: Float[Tensor, "*batch feature"], weights: Float[Tensor, "*batch action"]
) -> Float[Tensor, "*batch blocks"]:
    """Return weights ⊗ φ: a block of features for each action."""
    return (weights.to(feature)[..., :, None] * feature[..., None, :]).flatten(-2)


def action_transitions(
    rows: ActionRows,
    transitions: Transition,
    action: Tensor,
    next_weights: Float[Tensor, "*batch action"],
) -> Transition:
    """Return transitions from (s, a) to (s', π), from which any rule learns q.

    action:       taken at s, [*batch] numbers, or continuous [*batch, action]
    next_weights: π(·|s'), or a continuous action drawn from it

    A batch of them goes through `ratio_on_arrival` before a rule learns from it.
    """
    weights = rows.weights(action, transitions.reward)
    return ActionWeights(rows, weights, next_weights).complete(transitions)


def ratio_on_arrival(transitions: Transition) -> Transition:
    """Return transitions whose ratio weighs no error, but what arrives from before them.

    Their ratio is 1, and `first` is 1 − ρ where an episode continues: a trace or a λ-return is
    multiplied by (1 − first), and so reaches (s, a) with the ratio of a.
    """
    arrives: Tensor = transitions.ratio
    if transitions.first is not None:
        arrives = (1 - transitions.first) * arrives
    return transitions._replace(ratio=torch.ones_like(arrives), first=1 - arrives)


class ActionHeads(nn.Module):
    """From rows to x(s, a) = e_a ⊗ φ(s), or π(·|s) ⊗ φ(s): a head's block for each action.

    body: from [batch, *observation] to φ [batch, feature]
    """

    def __init__(self, body: nn.Module, observation_shape: tuple[int, ...], actions: int) -> None:
        super().__init__()
        self.body, self.observation_shape, self.actions = body, observation_shape, actions

    def forward(self, row: Float[Tensor, "batch row"]) -> Float[Tensor, "batch blocks"]:
        """Return [batch, actions · feature]."""
        flat, weights = row.split([row.shape[1] - self.actions, self.actions], 1)
        return action_blocks(self.body(flat.reshape(-1, *self.observation_shape)), weights)


def body_of_rows(rows: ActionRows, make_body: MakeBody | None) -> MakeBody | None:
    """Return what makes the body that takes rows: with a head an action, or a plain one.

    make_body: makes φ(s) with discrete actions, of an observation's shape; φ(s, a) with continuous
        ones, of a row's shape. None for given features.
    """
    if make_body is None or not rows.discrete:
        return make_body
    inner: Callable[..., Any] = make_body
    shape = rows.observation_shape
    return lambda _: ActionHeads(inner(shape), shape, rows.size)
