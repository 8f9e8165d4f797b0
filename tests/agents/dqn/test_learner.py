"""The update of deep Q-learning: by hand, against autograd in float64, and on one device."""

import contextlib

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from agents.dqn.batch import Batch
from agents.dqn.learner import Learner, exploration, make_auxiliary
from agents.dqn.objectives import CONTROL_RULES, DOUBLE, QObjective, descent, td_targets
from agents.dqn.optimizers import OPTIMIZERS, make_optimizer
from agents.dqn.q_network import QNetwork, make_network, matrix_operations
from neural_tdc.compiled.private_compiler import compiler_available
from neural_tdc.split_rates import check_groups, effective_rates

STATE, FEATURE, ACTION, BATCH = 3, 5, 4, 6


def network(seed=0, dtype=torch.float64):
    return make_network("mlp", (STATE,), ACTION, seed=seed, features=FEATURE, hidden=(7,)).to(dtype)


def batch(dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return 3 * torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return Batch(
        numbers(BATCH, STATE),
        torch.randint(ACTION, (BATCH,), generator=g),
        numbers(BATCH),
        torch.tensor([0.9, 0.0, 0.81, 0.9, 0.9, 0.0], dtype=dtype),
        numbers(BATCH, STATE),
        np.array([3, 17, 4, 3 + 8, 30, 9]),
    )


def learner(objective=DOUBLE, optimizer="sgd", dtype=torch.float64, **options):
    net = network(dtype=dtype)
    made = Learner(net, make_optimizer(optimizer, net, 0.01, 0.03), objective, **options)
    made.target.load_state_dict(network(seed=9, dtype=dtype).state_dict())
    return made


def test_goals_by_hand():
    target = torch.tensor([[1.0, 5.0, 2.0], [4.0, -1.0, 0.0]])
    online_values = torch.tensor([[0.0, 0.0, 7.0], [1.0, 3.0, 2.0]])
    reward, discount = torch.tensor([0.5, 1.0]), torch.tensor([0.9, 0.0])
    rows = Batch(target, torch.zeros(2).long(), reward, discount, target, np.zeros(2))
    torch.testing.assert_close(td_targets(target, rows), torch.tensor([5.0, 1.0]))
    # Double DQN: the network's best action, 2 and 1, at the target's value.
    torch.testing.assert_close(td_targets(target, rows, online_values), torch.tensor([2.3, 1.0]))


# Values 4, 6 and 2 of the best actions 0, 1 and 0: G = R + Γ((1 − λ)q + λG'), Γ = λ = 1/2.
@pytest.mark.parametrize(
    ("action", "follows", "expected"),
    [
        ([9, 0, 1], [True, True, False], [3.125, 4.5, 4.0]),
        ([9, 0, 0], [True, True, False], [3.25, 5.0, 4.0]),  # the last action is explored
        ([9, 0, 1], [True, False, False], [3.25, 5.0, 4.0]),  # a cut
    ],
)
def test_lambda_returns_by_hand(action, follows, expected):
    after = torch.tensor([[4.0, 0.0], [0.0, 6.0], [2.0, 0.0]])
    rows = Batch(
        after,
        torch.tensor(action),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.full((3,), 0.5),
        after,
        np.zeros(3),
        torch.tensor(follows),
    )
    found = td_targets(after, rows, trace_decay=0.5)
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_loss_equals_the_formula_row_by_row(double, loss):
    net, target, rows = network(), network(seed=9), batch()
    total = 0.0
    for s, a, r, d, after in zip(*rows[:5]):
        with torch.no_grad():
            theirs, own = target(after[None])[0], net(after[None])[0]
            q = theirs[own.argmax()] if double else theirs.max()
            error = float(r + d * q - net(s[None])[0, a])
        small = 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5
        total += small if loss == "huber" else error**2
    with torch.no_grad():
        known = target(rows.next_observation)
    found, _, value = descent(net, None, known, None, rows, QObjective(double, loss))
    assert float(found) == pytest.approx(total / BATCH, rel=1e-12)
    expected = net(rows.observation).gather(1, rows.action[:, None]).mean()
    assert float(value) == pytest.approx(float(expected), rel=1e-12)


def test_an_update_moves_body_and_head_by_their_own_rates_against_the_gradient():
    taught = learner(QObjective(True, "squared"))
    before = {name: p.detach().clone() for name, p in taught.network.named_parameters()}
    rows = batch()
    with torch.no_grad():
        best = taught.network(rows.next_observation).argmax(1)
        after = taught.target(rows.next_observation)[torch.arange(BATCH), best]
        td_target = rows.reward + rows.discount * after
    value = taught.network(rows.observation)[torch.arange(BATCH), rows.action]
    loss = ((td_target - value) ** 2).mean()
    gradients = torch.autograd.grad(loss, list(taught.network.parameters()))
    taught.update(rows)
    for (name, p), gradient in zip(taught.network.named_parameters(), gradients):
        rate = 0.03 if name.startswith("head") else 0.01
        torch.testing.assert_close(p, before[name] - rate * gradient, rtol=1e-9, atol=1e-12)


def test_an_update_leaves_the_target_alone_until_it_follows():
    taught = learner()
    target = [p.clone() for p in taught.target.parameters()]
    taught.update(batch())
    assert all(torch.equal(a, b) for a, b in zip(target, taught.target.parameters()))
    taught.sync_target()
    pairs = zip(taught.target.parameters(), taught.network.parameters())
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(p.data_ptr() != q.data_ptr() for p, q in zip(*taught._pairs))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rates_in_the_optimiser_are_the_flags_after_every_step_of_a_schedule(name):
    taught = learner(optimizer=name, dtype=torch.float32)
    for factor in (1.0, 0.5, 0.1, 0.0, 1.0):
        taught.set_rates(factor)
        taught.update(batch(torch.float32))
        rates = effective_rates(taught.optimizer)
        assert rates == {"body": 0.01 * factor, "head": 0.03 * factor}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_in_one_group_and_the_target_in_none(name):
    taught = learner(optimizer=name, dtype=torch.float32)
    check_groups(taught.network, taught.optimizer.param_groups)
    held = {id(p) for group in taught.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in taught.network.parameters()}
    assert not held & {id(p) for p in taught.target.parameters()}
    assert not any(p.requires_grad for p in taught.target.parameters())
    (head,) = [group for group in taught.optimizer.param_groups if group["label"] == "head"]
    assert sum(p.numel() for p in head["params"]) == FEATURE * ACTION + ACTION


def test_a_rate_of_zero_or_less_is_refused():
    for body, head in ((0.0, 0.1), (0.1, -1.0), (float("nan"), 0.1)):
        with pytest.raises(ValueError, match="finite number above 0"):
            make_optimizer("adam", network(), body, head)


def test_gradient_norms_are_those_of_body_and_head_and_change_nothing():
    taught, rows = learner(), batch()
    before = [p.detach().clone() for p in taught.network.parameters()]
    after = taught.target(rows.next_observation)
    loss = descent(taught.network, None, after, None, rows, taught.objective).objective
    named = dict(taught.network.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
    squares = {"body": 0.0, "head": 0.0}
    for name, gradient in gradients.items():
        squares[name.split(".")[0]] += float(gradient.square().sum())
    norms = taught.gradient_norms(rows)
    assert {label: float(norm) ** 2 for label, norm in norms.items()} == pytest.approx(squares)
    assert all(torch.equal(a, b) for a, b in zip(before, taught.network.parameters()))
    assert all(p.grad is None for p in taught.network.parameters())


def test_a_gradient_longer_than_allowed_is_shortened_to_that_norm():
    taught = learner(QObjective(False, "squared"), max_grad_norm=0.5)
    norms = taught.gradient_norms(batch())
    assert sum(float(n) ** 2 for n in norms.values()) > 1
    before = [p.detach().clone() for p in taught.network.parameters()]
    taught.update(batch())
    moved = 0.0
    for (name, p), old in zip(taught.network.named_parameters(), before):
        moved += float(((p - old) / (0.03 if name.startswith("head") else 0.01)).square().sum())
    assert moved**0.5 == pytest.approx(0.5, rel=1e-4)


def test_exploration_falls_linearly_and_stays():
    assert [exploration(step, 1.0, 0.1, 90) for step in (0, 45, 90, 1000)] == [1.0, 0.55, 0.1, 0.1]
    assert exploration(0, 1.0, 0.2, 0) == 0.2


def test_bytes_are_scaled_once_and_equal_the_same_picture_in_float():
    net = make_network("paper", (4, 84, 84), 3, seed=0, scale=1 / 255)
    picture = torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    expected = net.head(net.body(picture.float() / 255))
    torch.testing.assert_close(net(picture), expected)


def test_networks_have_the_layers_they_are_named_for():
    def kinds(name, shape):
        net = make_network(name, shape, 6, seed=0)
        return [type(m).__name__ for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]

    assert kinds("paper", (4, 84, 84)) == ["Conv2d", "Linear", "Linear"]
    assert kinds("paper", (7, 10, 10)) == ["Conv2d", "Linear", "Linear"]
    assert kinds("nature", (4, 84, 84)) == ["Conv2d"] * 3 + ["Linear"] * 2
    nature = make_network("nature", (4, 84, 84), 6, seed=0)
    assert sum(p.numel() for p in nature.parameters()) == 1_687_206
    # 20·20·32·256 + 9·9·64·512 + 7·7·64·576 + 3136·512 + 512·6 multiply-adds.
    assert matrix_operations(nature, torch.zeros(1, 4, 84, 84)) == 2 * 9_346_048


def test_a_network_depends_on_the_seed_alone_and_leaves_the_global_generator():
    state = torch.get_rng_state()
    one, two, other = (make_network("mlp", (3,), 2, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_network_that_cannot_read_the_observations_is_refused():
    with pytest.raises(ValueError, match="at least 36 pixels"):
        make_network("nature", (4, 10, 10), 3, seed=0)
    with pytest.raises(ValueError, match="need the network mlp"):
        make_network("paper", (4,), 3, seed=0)
    with pytest.raises(ValueError, match="not one of mlp, paper, nature"):
        make_network("resnet", (4,), 3, seed=0)


def test_a_saved_learner_goes_on_as_the_first_and_another_networks_is_refused():
    one, two = (
        learner(optimizer="adam", dtype=torch.float32),
        learner(optimizer="adam", dtype=torch.float32),
    )
    for _ in range(3):
        one.update(batch(torch.float32))
    saved = tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, one.state())
    two.load(saved)
    for taught in (one, two):
        taught.update(batch(torch.float32, seed=5))
    assert all(
        torch.equal(a, b) for a, b in zip(one.network.parameters(), two.network.parameters())
    )
    wide = QNetwork(nn.Linear(STATE, 2 * FEATURE), 2 * FEATURE, ACTION)
    stranger = Learner(wide, make_optimizer("adam", wide, 0.1, 0.1))
    with pytest.raises(ValueError, match="another network"):
        stranger.load(saved)


# --- one device

# Every rule, and gradient TD that values the next state by a copy of the head.
OBJECTIVES = [*CONTROL_RULES.values(), CONTROL_RULES["qrc"]._replace(target="head")]


def update_on_meta(mode, optimizer, objective, tamper=lambda loss: loss, compiled=False):
    net = make_network("paper", (4, 84, 84), ACTION, seed=0, scale=1 / 255).to("meta")
    auxiliary = make_auxiliary(net) if objective.correction else None
    taught = Learner(
        net,
        make_optimizer(optimizer, net, 0.1, 0.2, auxiliary=auxiliary),
        objective,
        auxiliary=auxiliary,
        max_grad_norm=10.0,
        compiled=compiled,
        target_cache_rows=2 * BATCH,
    )
    rows = Batch(
        torch.zeros(BATCH, 4, 84, 84, dtype=torch.uint8),
        torch.zeros(BATCH, dtype=torch.int64),
        torch.zeros(BATCH),
        torch.zeros(BATCH),
        torch.zeros(BATCH, 4, 84, 84, dtype=torch.uint8),
        np.arange(BATCH),
    )
    rows = Batch(*(leaf.to("meta") for leaf in rows[:5]), rows.next_number)
    with mode:
        taught.set_rates(0.5)
        loss, value = taught.update(rows)
        # One target value is known by now, the others are not.
        taught.update(rows._replace(next_number=np.arange(BATCH) + BATCH - 1))
        tamper(loss)
        norms = taught.gradient_norms(rows)
        taught.sync_target()
        action = taught.greedy(rows.observation)
    return [loss, value, action, *norms.values(), *taught.network.parameters()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_update_stays_on_its_device_and_asks_the_host_nothing(
    one_device_fed, optimizer, objective
):
    leaves = update_on_meta(one_device_fed, optimizer, objective)
    assert {leaf.device.type for leaf in leaves} == {"meta"}


@pytest.mark.parametrize(
    "tamper", [lambda loss: loss.item(), lambda loss: loss[None] + torch.ones(1)]
)
def test_an_update_that_waits_or_mixes_devices_is_found(one_device_fed, tamper):
    with pytest.raises((AssertionError, RuntimeError)):
        update_on_meta(one_device_fed, "adam", QObjective(), tamper)


def test_half_precision_rounds_and_still_agrees_roughly():
    exact, half = (
        learner(optimizer="sgd", dtype=torch.float32, precision=precision)
        for precision in ("float32", "bf16")
    )
    one, _ = exact.update(batch(torch.float32))
    two, _ = half.update(batch(torch.float32))
    assert float(one) != float(two)
    assert float(one) == pytest.approx(float(two), rel=0.05)


def test_what_is_compiled_is_one_graph_on_the_device(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    compile, graphs = torch.compile, []

    def seen(graph, inputs):
        graphs.append(graph.graph.nodes)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f: compile(f, backend=seen, fullgraph=True))
    update_on_meta(contextlib.nullcontext(), "sgd", DOUBLE, compiled=True)
    (nodes,) = graphs
    leaves = tree_leaves([(node.kwargs, node.meta.get("example_value")) for node in nodes])
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim() > 0]
    devices = {leaf for leaf in leaves if isinstance(leaf, torch.device)}
    assert {tensor.device for tensor in tensors} | devices == {torch.device("meta")}


@pytest.mark.skipif(not compiler_available(torch.device("cpu")), reason="needs a C++ compiler")
def test_a_compiled_update_is_the_eager_one(monkeypatch):
    # The checks of shapes are none of a user's program, and the compiler cannot trace them.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    eager, compiled = (
        learner(optimizer="adam", compiled=compiled, target_cache_rows=40)
        for compiled in (False, True)
    )
    for seed in (1, 2, 1):
        rows = batch(seed=seed)
        for one, other in zip(eager.update(rows), compiled.update(rows)):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    pairs = zip(eager.network.parameters(), compiled.network.parameters())
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
