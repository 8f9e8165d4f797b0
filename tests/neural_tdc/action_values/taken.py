"""Segments of transitions with their actions, and the scalars of q, a head for each action."""

import torch

from neural_tdc.action_values.rows import (
    ActionHeads,
    ActionRows,
    action_transitions,
    ratio_on_arrival,
)
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

STATE, FEATURE, HIDDEN, ACTION, PSI = 3, 4, 6, 5, 7
COUNT = 13
F64 = torch.float64
DECAYS = [0.0, 0.6, 1.0]
ROWS = ActionRows((STATE,), ACTION)
AUXILIARIES = ("tdc", "tdrc")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(seed=0):
    """Make φ, the features of rows, and parameters of A heads in float64, none of them 0."""
    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, (HIDDEN,)).double()
    heads = ActionHeads(module, (STATE,), ACTION)
    body = {name: 2 * p.detach() for name, p in heads.named_parameters()}
    blocks = ACTION * FEATURE
    auxiliary = {name: draw(blocks, seed=seed + i) for i, name in enumerate(AUXILIARIES, 2)}
    auxiliary["generalized"] = draw(PSI, seed=seed + 9)
    return module, feature_map(heads), Parameters(body, draw(blocks, seed=seed + 1), auxiliary)


class Taken:
    """Three segments of 6, 3 and 4 transitions with their actions, with ends and cuts inside.

    The evaluated policy never takes action 2, which the behaviour takes in row 4.
    """

    def __init__(self, seed=0):
        source = torch.Generator().manual_seed(seed)
        observation = draw(COUNT, STATE, seed=seed)
        following = torch.cat([observation[1:], draw(1, STATE, seed=seed + 1)])
        discount = torch.full((COUNT,), 0.9, dtype=F64)
        first = torch.zeros(COUNT, dtype=F64)
        first[[0, 3, 6, 8, 9, 10]] = 1
        discount[[2, 9]] = 0
        for cut in (2, 5, 7, 8, 9):
            following[cut] = draw(STATE, seed=seed + cut)
        self.action = torch.randint(ACTION, (COUNT,), generator=source)
        self.action[4] = 2
        scores = draw(COUNT, ACTION, seed=seed + 30)
        scores[:, 2] = -torch.inf
        self.next_probability = scores.softmax(1)
        ratio = 2 * torch.rand(COUNT, generator=source, dtype=F64)
        ratio[self.action == 2] = 0
        self.seen = Transition(
            observation, draw(COUNT, seed=seed + 20), discount, following, ratio, first
        )

    @property
    def batch(self):
        """Return what a rule learns from."""
        rows = action_transitions(ROWS, self.seen, self.action, self.next_probability)
        return ratio_on_arrival(rows)


def phi(module, body, observation):
    inner = {name.removeprefix("body."): tensor for name, tensor in body.items()}
    return torch.func.functional_call(module, inner, (observation,))


def td_errors(module, taken, body, head):
    """Return δ = r + γΣ_aπ(a|s')θ_aᵀφ' − θ_aᵀφ, written with one head an action."""
    heads, (observation, reward, discount, following, *_) = head.view(ACTION, FEATURE), taken.seen
    value = (heads[taken.action] * phi(module, body, observation)).sum(1)
    expected = (taken.next_probability * (phi(module, body, following) @ heads.T)).sum(1)
    return reward + discount * expected - value


def inner_products(module, taken, body, omega):
    """Return u = ω_aᵀφ."""
    return (omega.view(ACTION, FEATURE)[taken.action] * phi(module, body, taken.seen[0])).sum(1)


def lambda_errors(errors, taken, decay):
    """Return δ^λ_k = δ_k + γ_kλρ_{k+1}δ^λ_{k+1}, by a loop; nothing comes over a start."""
    _, _, discount, _, ratio, first = taken.seen
    found = [None] * COUNT
    later = torch.zeros((), dtype=F64)
    for k in reversed(range(COUNT)):
        if k + 1 == COUNT or first[k + 1] == 1:
            found[k] = errors[k]
        else:
            found[k] = errors[k] + discount[k] * decay * ratio[k + 1] * later
        later = found[k]
    return torch.stack(found)


def carried_weights(u, taken, decay):
    """Return m_k = u_k + γ_{k−1}λρ_k m_{k−1}, by a loop."""
    _, _, discount, _, ratio, first = taken.seen
    found = []
    for k in range(COUNT):
        carried = 0.0
        if k and first[k] == 0:
            carried = discount[k - 1] * decay * ratio[k] * found[k - 1]
        found.append(u[k] + carried)
    return torch.stack(found)


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])


def close(left, right):
    assert float((left - right).norm()) <= 1e-10 * float(right.norm()), (left, right)


def directions(name, taken, features, parameters, decay, state=None, **settings):
    rule = RULES[name].with_action_values().with_settings(**settings).with_lambda_returns(decay)
    given = () if state is None else (state,)
    return rule.directions(features, parameters, taken.batch, *given)
