"""What a Q-network descends in an update: Q-learning, and Q-learning by gradient TD.

A batch has transitions (s, a, R, Γ, s') with R the n-step return and Γ its discount, 0 at an end.
With features φ of the body and a head θ for each action, Q(s, a) = θ_aᵀφ(s), biases included.

Q-learning descends the error R + Γ·q(s') − Q(s, a) and holds q still: q is the value of a target's
own best action or, in double Q-learning, of the network's. Gradient TD lets q be the network's own
value of the best action b at s', δ = R + Γθ_bᵀφ(s') − θ_aᵀφ(s), and corrects for what an update
does to it. An auxiliary head ω for each action estimates δ, u = ω_aᵀφ(s). Subtracted are, averaged
over the batch,

    body    (∂φ)ᵀc + (∂φ')ᵀc'  with c = −δθ_a and c' = Γuθ_b           ("corrected": QC and QRC)
                               or   c = (δ − u)ω_a − uθ_a and c' = Γuθ_b  ("mspbe": Algorithm 1)
    head    −δφ(s) from θ_a and Γuφ(s') from θ_b
    auxiliary  −(δ − u)φ(s) from ω_a, and κω from all ω

With λ over segments (`agents.dqn.segments`) Q-learning descends the error of the λ-return, and in
gradient TD δ^λ replaces δ, and m = m(u) for u, but for (δ^λ − u)ω_a and the auxiliary head's
−(δ^λ − u)φ(s); "corrected" bodies and heads have −(δ^λ + m − u) in the place of −δ.

Sources: Mnih et al. 2015 (Nature 518, 529); van Hasselt et al. 2016 (arXiv 1509.06461); QC and QRC
of Ghiassian et al. 2020 (arXiv 2007.00611) and Patterson et al. 2022 (arXiv 2104.13844); Algorithm
1 of arXiv 2605.15530; a target of the head alone as in Vincent et al. 2025 (arXiv 2506.04398).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from agents.dqn.batch import Batch
from agents.dqn.batched_linear import batched_linear
from agents.dqn.segments import carried_from_next, from_earlier, from_later

LOSSES: dict[str, Callable[..., Tensor]] = {
    "huber": functional.smooth_l1_loss,
    "squared": functional.mse_loss,
}
TARGETS = ("network", "head", "none")


class QObjective(NamedTuple):
    """What an update descends.

    double:      whether the network chooses the action at s' that the target values
    loss:        "huber" or "squared" error of Q-learning
    target:      what values s': a copy of the whole "network", a copy of the "head" on the present
                 features, or "none": the present network
    correction:  None for Q-learning; else how the body is corrected, "corrected" or "mspbe"
    kappa:       κ of the auxiliary head's −κω
    trace_decay: λ over segments, with Watkins's traces
    """

    double: bool = True
    loss: str = "huber"
    target: str = "network"
    correction: str | None = None
    kappa: float = 0.0
    trace_decay: float = 0.0


DOUBLE = QObjective()
CONTROL_RULES = {
    "q": QObjective(double=False),
    "double-q": DOUBLE,
    "qc": QObjective(False, "squared", "none", "corrected"),
    "qrc": QObjective(False, "squared", "none", "corrected", kappa=1.0),
    "tdc": QObjective(False, "squared", "none", "mspbe"),
}
GRADIENT_RULES = tuple(name for name, rule in CONTROL_RULES.items() if rule.correction)


class Descent(NamedTuple):
    """What came of a batch, means over it; leaves have the runs of a population as leading axis.

    objective:  whose gradient is subtracted from body, head and auxiliary head
    loss:       the loss of Q-learning, or half the squared TD error of gradient TD
    value:      Q(s, a)
    """

    objective: Tensor
    loss: Tensor
    value: Tensor


class LinearHead(NamedTuple):
    """The parameters of a linear head: weight [*run, action, feature] and bias [*run, action]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, feature: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch action"]:
        """Return the outputs for all actions; of a population, feature [run, batch, feature]."""
        if self.weight.dim() == 3:
            return batched_linear(feature, self.weight, self.bias)
        return feature @ self.weight.mT + self.bias

    def still(self) -> "LinearHead":
        """Return the head without a gradient."""
        return LinearHead(self.weight.detach(), self.bias.detach())


@runtime_checkable
class ActionValues(Protocol):
    """A Q-network, or a population of them: features, a head, and the values of all actions."""

    @property
    def head(self) -> "nn.Linear | LinearHead":
        """Return the head."""

    def features(self, observation: Tensor) -> Tensor:
        """Return the features [n, d] of observations [n, …]."""

    def __call__(self, observation: Tensor) -> Tensor:
        """Return the values of all actions."""


def linear_head(layer: nn.Linear | LinearHead) -> LinearHead:
    """Return the parameters of a layer."""
    return LinearHead(layer.weight, layer.bias)


def of_action(
    values: Float[Tensor, "*batch action"], action: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Return the value of one action in each row."""
    return values.gather(-1, action[..., None]).squeeze(-1)


def td_targets(
    target_values: Float[Tensor, "*batch action"],
    batch: Batch,
    online_values: Float[Tensor, "*batch action"] | None = None,
    trace_decay: float = 0.0,
) -> Float[Tensor, "*batch"]:
    """Return R + Γ·q(s'), where q is the target's value of the best action by `online_values`.

    online_values:  the network's own values at s' for double DQN; None for the target's
    trace_decay:    λ of the λ-return R + (Γ − d)q(s') + d·(that of the next transition)
    """
    choosing = target_values if online_values is None else online_values
    best = choosing.argmax(-1)
    carry = carried_from_next(batch, best, trace_decay)
    after = of_action(target_values, best)
    one_step = batch.reward + batch.discount * after
    return one_step if carry is None else from_later(one_step - carry * after, carry)


def q_learning(
    values: Float[Tensor, "*batch action"],
    action: Int[Tensor, "*batch"],
    td_target: Float[Tensor, "*batch"],
    loss: str,
) -> Descent:
    """Return the loss of Q(s, a) against targets that are held still."""
    value = of_action(values, action)
    found = LOSSES[loss](value, td_target, reduction="none").mean(-1)
    return Descent(found, found.detach(), value.detach().mean(-1))


def gradient_td(
    feature: Float[Tensor, "*batch feature"],
    next_feature: Float[Tensor, "*batch feature"],
    heads: tuple[LinearHead, LinearHead],
    target_head: LinearHead | None,
    batch: Batch,
    objective: QObjective,
) -> Descent:
    """Return an objective whose gradient is the update of gradient TD; see the module.

    feature, next_feature:  φ(s) and φ(s'), functions of the body's parameters
    heads:        the head θ and the auxiliary head ω
    target_head:  a copy of θ that values s' and is held still, so that the head has no correction;
                  None for θ itself
    """
    head, auxiliary = heads
    action, still, next_still = batch.action, feature.detach(), next_feature.detach()
    follows = head.still() if target_head is None else target_head.still()
    # Every part has its own copy of what it does not move: no gradient reaches another part.
    value = of_action(head(still), action)
    estimate = of_action(auxiliary(still), action)
    next_values = follows(next_feature)
    best = next_values.detach().argmax(-1)
    body_next = of_action(next_values, best)
    body_value = of_action(head.still()(feature), action)
    body_error = batch.reward + batch.discount * body_next - body_value
    u, carry = estimate.detach(), carried_from_next(batch, best, objective.trace_decay)
    # δ^λ and m(u); without λ they are δ and u.
    error, m = from_later(body_error.detach(), carry), from_earlier(u, carry)
    credit = error + (m - u)
    if objective.correction == "mspbe":
        body_estimate = of_action(auxiliary.still()(feature), action)
        body = m * body_error + error * body_estimate - body_estimate.square() / 2
    else:
        body = batch.discount * m * body_next - credit * body_value
    of_head = -credit * value
    if target_head is None:
        of_head = of_head + batch.discount * m * of_action(head(next_still), best)
    of_auxiliary = (error - estimate).square() / 2
    total = (body + of_head + of_auxiliary).mean(-1)
    if objective.kappa:
        size = auxiliary.weight.square().sum((-2, -1)) + auxiliary.bias.square().sum(-1)
        total = total + objective.kappa / 2 * size
    return Descent(total, error.square().mean(-1) / 2, value.detach().mean(-1))


def descent(
    network: ActionValues,
    auxiliary: nn.Linear | LinearHead | None,
    target_values: Float[Tensor, "*batch action"] | None,
    target_head: nn.Linear | LinearHead | None,
    batch: Batch,
    objective: QObjective,
) -> Descent:
    """Return what a network descends on a batch, or every run of a population on its own.

    auxiliary:      the auxiliary head of gradient TD
    target_values:  of the target network at s'; None where there is no target network
    target_head:    a copy of the head; None where the present head values s'

    Errors are computed in the rewards' precision, also where the networks' products have less.
    """
    exact = batch.reward.dtype
    if objective.correction:
        assert auxiliary is not None
        return gradient_td(
            network.features(batch.observation).to(exact),
            network.features(batch.next_observation).to(exact),
            (linear_head(network.head), linear_head(auxiliary)),
            None if target_head is None else linear_head(target_head),
            batch,
            objective,
        )
    with torch.no_grad():
        online_values = None
        if objective.double or target_values is None:
            next_feature = network.features(batch.next_observation)
            online_values = network.head(next_feature)
            if target_values is None:
                target_values = online_values if target_head is None else target_head(next_feature)
            online_values = online_values.to(exact)
        td_target = td_targets(
            target_values.to(exact),
            batch,
            online_values if objective.double else None,
            objective.trace_decay,
        )
    return q_learning(network(batch.observation).to(exact), batch.action, td_target, objective.loss)
