"""What Q-networks descend: gradient TD against autograd of its saddle form; a counterexample."""

import numpy as np
import pytest
import torch
from torch import nn

from agents.dqn.batch import Batch
from agents.dqn.learner import Learner, make_auxiliary
from agents.dqn.objectives import (
    CONTROL_RULES,
    GRADIENT_RULES,
    LinearHead,
    QObjective,
    descent,
    gradient_td,
)
from agents.dqn.optimizers import make_optimizer
from agents.dqn.q_network import QNetwork, make_network

STATE, FEATURE, ACTION, BATCH = 3, 5, 4, 6
RATES = {"body": 0.01, "head": 0.03, "auxiliary": 0.07}


def network(seed=0):
    made = make_network("mlp", (STATE,), ACTION, seed=seed, features=FEATURE, hidden=(7,))
    return made.double()


def batch(seed=1):
    g = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return 2 * torch.randn(*shape, generator=g, dtype=torch.float64)

    return Batch(
        numbers(BATCH, STATE),
        torch.randint(ACTION, (BATCH,), generator=g),
        numbers(BATCH),
        torch.tensor([0.9, 0.0, 0.81, 0.9, 0.9, 0.0], dtype=torch.float64),
        numbers(BATCH, STATE),
        np.arange(BATCH),
    )


def segments(choosing):
    """Return two segments of three, most of whose actions were best by the values `choosing`."""
    rows = batch()
    best = choosing(rows.next_observation).argmax(1)
    action = torch.cat([rows.action[:1], best[:-1]])
    action[5] = (action[5] + 1) % ACTION
    return rows._replace(
        action=action,
        discount=torch.tensor([0.9, 0.8, 0.81, 0.9, 0.9, 0.0], dtype=torch.float64),
        follows=torch.tensor([True, True, False, True, True, False]),
    )


def learner(objective):
    net = network()
    auxiliary = make_auxiliary(net)
    with torch.no_grad():
        for p in auxiliary.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    optimizer = make_optimizer(
        "sgd",
        net,
        RATES["body"],
        RATES["head"],
        auxiliary=auxiliary,
        auxiliary_rate=RATES["auxiliary"],
    )
    made = Learner(net, optimizer, objective, auxiliary=auxiliary)
    made.target.load_state_dict(network(seed=9).state_dict())
    return made


def saddle_directions(net, auxiliary, target_head, rows, objective):
    """Return what is subtracted, {label: [tensor]}, by autograd of E[uδ − u²/2] − κ‖ω‖²/2.

    The head and the "corrected" body take (u − δ)∂Q(s, a) besides, with what they multiply held
    still: the difference between GTD2 and TDC. The head has no path through a target of the head.
    """
    i = torch.arange(BATCH)
    after = net.features(rows.next_observation)
    next_values = net.head(after) if target_head is None else target_head(after)
    best = next_values.argmax(1)
    q = net(rows.observation)[i, rows.action]
    delta = rows.reward + rows.discount * next_values[i, best] - q
    if rows.follows is not None:
        # δ^λ of each transition, by the recursion: one explored action, one end of a segment.
        reached = [delta[-1]]
        for k in reversed(range(BATCH - 1)):
            on = rows.follows[k] and rows.action[k + 1] == best[k]
            reached.append(
                delta[k] + (objective.trace_decay * rows.discount[k] * reached[-1] if on else 0)
            )
        delta = torch.stack(reached[::-1])
    u = auxiliary(net.features(rows.observation))[i, rows.action]
    size = sum(p.square().sum() for p in auxiliary.parameters())
    saddle = (u * delta - u**2 / 2).mean() - objective.kappa / 2 * size
    beside = ((u - delta).detach() * q).mean()
    held = (u.detach() * delta).mean()
    body = saddle if objective.correction == "mspbe" else held + beside

    def gradients(of, module):
        return torch.autograd.grad(of, list(module.parameters()), retain_graph=True)

    return {
        "body": gradients(body, net.body),
        "head": gradients(held + beside, net.head),
        "auxiliary": [-each for each in gradients(saddle, auxiliary)],
    }


@pytest.mark.parametrize("trace_decay", [0.0, 0.7])
@pytest.mark.parametrize("target", ["none", "head"])
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_gradient_td_is_autograd_of_the_saddle_form_at_three_rates(rule, target, trace_decay):
    objective = CONTROL_RULES[rule]._replace(target=target, trace_decay=trace_decay)
    if rule == "qrc":
        objective = objective._replace(kappa=0.6)
    taught, rows = learner(objective), batch()
    target_head = taught.target.head if target == "head" else None
    if trace_decay:
        values = target_head or taught.network.head
        rows = segments(lambda observation: values(taught.network.features(observation)))
    expected = saddle_directions(taught.network, taught.auxiliary, target_head, rows, objective)
    if target_head is None and not trace_decay:
        # What follows the discount is there only once the estimate is not 0.
        assert float(expected["head"][0].abs().sum(1).min()) > 0
    parts = {
        "body": taught.network.body,
        "head": taught.network.head,
        "auxiliary": taught.auxiliary,
    }
    before = {
        label: [p.detach().clone() for p in part.parameters()] for label, part in parts.items()
    }
    norms = taught.gradient_norms(rows)
    taught.update(rows)
    for label, part in parts.items():
        for p, old, direction in zip(part.parameters(), before[label], expected[label]):
            torch.testing.assert_close(
                (old - p.detach()) / RATES[label], direction, rtol=1e-10, atol=1e-12
            )
        size = sum(float(direction.square().sum()) for direction in expected[label]) ** 0.5
        assert float(norms[label]) == pytest.approx(size, rel=1e-10)


@pytest.mark.parametrize("rule", CONTROL_RULES)
def test_segments_with_a_decay_of_0_are_transitions_of_their_own(rule):
    objective = CONTROL_RULES[rule]._replace(target="none")
    taught, rows = learner(objective), segments(network())
    leaves = [*taught.network.parameters()]
    pairs = [
        torch.autograd.grad(
            descent(taught.network, taught.auxiliary, None, None, each, objective).objective, leaves
        )
        for each in (rows, rows._replace(follows=None))
    ]
    assert all(torch.equal(one, other) for one, other in zip(*pairs))
    one, other = (
        descent(taught.network, taught.auxiliary, None, None, rows, each).loss
        for each in (objective, objective._replace(trace_decay=0.7))
    )
    assert abs(float(one - other)) > 1e-3


def one_feature(rule):
    """Return objectives of one transition with one feature: φ = 2, φ' = 3, two actions."""
    feature, after = (torch.tensor([[x]], requires_grad=True) for x in (2.0, 3.0))
    head = LinearHead(torch.tensor([[1.0], [2.0]], requires_grad=True), torch.zeros(2))
    auxiliary = LinearHead(torch.tensor([[0.5], [5.0]], requires_grad=True), torch.zeros(2))
    rows = Batch(
        feature,
        torch.tensor([0]),
        torch.tensor([1.0]),
        torch.tensor([0.5]),
        after,
        np.zeros(1),
    )
    found = gradient_td(feature, after, (head, auxiliary), None, rows, CONTROL_RULES[rule])
    leaves = [feature, after, head.weight, auxiliary.weight]
    gradients = torch.autograd.grad(found.objective, leaves)
    return float(found.loss), float(found.value), [g.flatten().tolist() for g in gradients]


# Q = 2, q' = max(3, 6) = 6, δ = 1 + 3 − 2 = 2, u = 1. Algorithm 1: c = (δ − u)ω_0 − uθ_0 = −½.
@pytest.mark.parametrize(
    ("rule", "c", "auxiliary"),
    [("qc", -2.0, [-2.0, 0.0]), ("qrc", -2.0, [-1.5, 5.0]), ("tdc", -0.5, [-2.0, 0.0])],
)
def test_gradient_td_of_one_feature_by_hand(rule, c, auxiliary):
    loss, value, gradients = one_feature(rule)
    assert (loss, value) == (2.0, 2.0)
    # c' = Γuθ_1 = 1; the heads: −δφ = −4 from action 0, Γuφ' = 1.5 from action 1.
    assert gradients == [[c], [1.0], [-4.0, 1.5], auxiliary]


@pytest.mark.parametrize("rule", ["q", "double-q"])
def test_a_target_of_the_head_values_the_present_features(rule):
    objective = CONTROL_RULES[rule]._replace(target="head", loss="squared")
    net, other, rows, i = network(), network(seed=9).head, batch(), torch.arange(BATCH)
    with torch.no_grad():
        theirs = other(net.body(rows.next_observation))
        choosing = net(rows.next_observation) if rule == "double-q" else theirs
        goal = rows.reward + rows.discount * theirs[i, choosing.argmax(1)]
        expected = (goal - net(rows.observation)[i, rows.action]).square().mean()
        assert not torch.equal(theirs.argmax(1), net(rows.next_observation).argmax(1))
    found = descent(net, None, None, other, rows, objective)
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=0)


def test_without_a_target_the_present_network_values_and_is_held_still():
    net, rows, i = network(), batch(), torch.arange(BATCH)
    with torch.no_grad():
        goal = rows.reward + rows.discount * net(rows.next_observation).max(1).values
    expected = (goal - net(rows.observation)[i, rows.action]).square().mean()
    found = descent(net, None, None, None, rows, QObjective(False, "squared", "none"))
    leaves = list(net.parameters())
    pairs = zip(*(torch.autograd.grad(each, leaves) for each in (found.objective, expected)))
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("objective", [CONTROL_RULES["qc"]._replace(target="network"), "no head"])
def test_gradient_td_without_its_parts_is_refused(objective):
    net = network()
    auxiliary = make_auxiliary(net)
    if objective == "no head":
        auxiliary, objective = None, CONTROL_RULES["qc"]
    optimizer = make_optimizer("sgd", net, 0.1, 0.1, auxiliary=auxiliary)
    with pytest.raises(ValueError, match="an auxiliary head and no target network"):
        Learner(net, optimizer, objective, auxiliary=auxiliary)


def test_a_saved_learner_has_its_auxiliary_head():
    one, two = learner(CONTROL_RULES["qrc"]), learner(CONTROL_RULES["qrc"])
    one.update(batch())
    two.load(one.state())
    assert all(torch.equal(a, b) for a, b in zip(one.auxiliary.weight, two.auxiliary.weight))
    state = one.state() | {"auxiliary": None}
    with pytest.raises(ValueError, match="another network"):
        two.load(state)


# --- Baird's star with actions (Baird 1995): solid leads to the last of seven states, dashed to any
# of the others; no reward, so that all values are 0. The behaviour takes solid with probability
# 1/7, and so every state is as frequent as any other. Eight given features, one head an action.

STATES = 7


def star():
    feature = torch.zeros(STATES, STATES + 1, dtype=torch.float64)
    feature[:-1, :-2] = 2 * torch.eye(STATES - 1)
    feature[:-1, -1] = 1
    feature[-1, -2:] = torch.tensor([1.0, 2.0])
    state = torch.arange(STATES).repeat_interleave(STATES)
    step = torch.arange(STATES).repeat(STATES)
    action = (step == STATES - 1).long()
    count = len(state)
    rows = Batch(
        feature[state],
        action,
        torch.zeros(count, dtype=torch.float64),
        torch.full((count,), 0.99, dtype=torch.float64),
        feature[step],
        np.arange(count),
    )
    return feature, rows


def learned_star(rule, updates):
    """Return the largest value at the start and at the end, over states and actions."""
    feature, rows = star()
    net = QNetwork(nn.Identity(), STATES + 1, 2).double()
    with torch.no_grad():
        net.head.bias.zero_()
        net.head.weight.copy_(torch.tensor([[0.0] * 8, [1.0, 1, 1, 1, 1, 1, 10, 1]]))
    auxiliary = make_auxiliary(net)
    # Without biases, as in the star.
    groups = [{"params": [net.head.weight], "lr": 0.5, "label": "head"}]
    groups += [{"params": [auxiliary.weight], "lr": 0.5, "label": "auxiliary"}]
    objective = CONTROL_RULES[rule]._replace(loss="squared", target="none")
    taught = Learner(net, torch.optim.SGD(groups), objective, auxiliary=auxiliary)
    largest = [float(net(feature).detach().abs().max())]
    for _ in range(updates):
        taught.update(rows)
    return *largest, float(net(feature).detach().abs().max())


def test_q_learning_diverges_on_the_star():
    start, end = learned_star("q", updates=300)
    assert end > 1e4 * start


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_gradient_td_does_not_diverge_on_the_star(rule):
    start, end = learned_star(rule, updates=300)
    assert start == 12
    assert end < (0.1 if rule != "qrc" else 2) * start
