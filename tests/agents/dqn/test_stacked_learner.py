"""Many networks as one: values, updates and rates of each run against the same run alone."""

import numpy as np
import pytest
import torch
from torch import nn

from agents.dqn.batch import Batch
from agents.dqn.learner import Learner, make_auxiliary
from agents.dqn.objectives import CONTROL_RULES
from agents.dqn.optimizers import OPTIMIZERS, make_optimizer
from agents.dqn.q_network import QNetwork, make_network
from agents.dqn.stacked_learner import MemberRates, StackedLearner
from agents.dqn.stacked_networks import StackedNetwork
from agents.dqn.update_graph import UpdateGraph
from neural_tdc.compiled.cuda_graphs import WARM_UPS
from tests.device_modes import Starts

RUNS, STATE, FEATURE, ACTION, BATCH = 3, 3, 5, 4, 6
# Two runs of the same rates and one of others: two blocks.
RATES = [
    MemberRates(0.01, 0.03, 0.05),
    MemberRates(0.01, 0.03, 0.05),
    MemberRates(0.02, 0.01, 0.07),
]


def network(seed):
    made = make_network("mlp", (STATE,), ACTION, seed=seed, features=FEATURE, hidden=(7,))
    return made.double()


def batches(seed=1):
    """Return batches of all runs, with leaves [run, batch, …]."""
    g = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return 2 * torch.randn(RUNS, BATCH, *shape, generator=g, dtype=torch.float64)

    return Batch(
        numbers(STATE),
        torch.randint(ACTION, (RUNS, BATCH), generator=g),
        numbers(),
        0.9 * (numbers() > -1),
        numbers(STATE),
        np.zeros((RUNS, BATCH)),
    )


def alone(run, objective, optimizer, norm):
    net = network(run)
    auxiliary = make_auxiliary(net) if objective.correction else None
    body, head, own = RATES[run]
    made = make_optimizer(optimizer, net, body, head, auxiliary=auxiliary, auxiliary_rate=own)
    return Learner(net, made, objective, auxiliary=auxiliary, max_grad_norm=norm)


@pytest.mark.parametrize(
    ("rule", "optimizer", "norm", "trace_decay"),
    [
        *((rule, "adam", None, 0.0) for rule in CONTROL_RULES),
        *(("qrc", optimizer, 0.7, 0.0) for optimizer in OPTIMIZERS),
        ("double-q", "adam", None, 0.8),
        ("qrc", "adam", None, 0.8),
    ],
)
def test_the_update_of_a_run_is_that_of_the_run_alone(rule, optimizer, norm, trace_decay):
    objective = CONTROL_RULES[rule]._replace(trace_decay=trace_decay)
    stacked = StackedLearner(
        [network(run) for run in range(RUNS)], objective, RATES, optimizer, max_grad_norm=norm
    )
    singles = [alone(run, objective, optimizer, norm) for run in range(RUNS)]
    for update in range(4):
        rows = batches(update)
        if trace_decay:
            rows = rows._replace(follows=torch.arange(BATCH).expand(RUNS, -1) % 3 < 2)
        loss, value = stacked.update(rows)
        if update == 1:
            stacked.sync_target()
            stacked.set_rates(0.5)
        for run, single in enumerate(singles):
            found = single.update(Batch(*(None if leaf is None else leaf[run] for leaf in rows)))
            torch.testing.assert_close((loss[run], value[run]), found, rtol=1e-10, atol=1e-12)
            if update == 1:
                single.sync_target()
                single.set_rates(0.5)
    for run, single in enumerate(singles):
        for name, leaf in single.network.state_dict().items():
            moved = (leaf - network(run).state_dict()[name]).abs().max()
            assert moved > 1e-5
            torch.testing.assert_close(
                stacked.network.of_run(run)[name], leaf, rtol=1e-10, atol=1e-12
            )
        if objective.correction:
            torch.testing.assert_close(
                stacked.auxiliary.weight[run].detach(),
                single.auxiliary.weight.detach(),
                rtol=1e-10,
                atol=1e-12,
            )


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_small_convolution_of_all_runs_is_that_of_each(scale):
    shape = (4, 6, 5)
    singles = [
        make_network("paper", shape, ACTION, seed=run, features=FEATURE, scale=scale).double()
        for run in range(RUNS)
    ]
    stacked = StackedNetwork(singles)
    picture = torch.randn(RUNS, 2, *shape, dtype=torch.float64)
    expected = torch.stack([single(seen) for single, seen in zip(singles, picture)]).detach()
    torch.testing.assert_close(stacked(picture), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(stacked.greedy(picture), expected.argmax(-1))


def test_a_strided_convolution_of_all_runs_is_that_of_each():
    bodies = [
        nn.Sequential(nn.Conv2d(2, 3, (3, 2), stride=(2, 1)), nn.Flatten()) for _ in range(RUNS)
    ]
    singles = [QNetwork(body, 3 * 3 * 4, ACTION).double() for body in bodies]
    picture = torch.randn(RUNS, 2, 2, 7, 5, dtype=torch.float64)
    expected = torch.stack([single(seen) for single, seen in zip(singles, picture)]).detach()
    torch.testing.assert_close(StackedNetwork(singles)(picture), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layer", [nn.Tanh(), nn.Linear(3, 5, bias=False), nn.Conv2d(1, 1, 3, padding=1)]
)
def test_a_layer_that_cannot_be_stacked_is_refused(layer):
    with pytest.raises(ValueError, match="is not supported"):
        StackedNetwork([QNetwork(nn.Sequential(layer), 5, 2)])


def test_a_run_whose_values_are_not_finite_leaves_the_others_alone():
    clean, broken = (
        StackedLearner(
            [network(run) for run in range(RUNS)], CONTROL_RULES["double-q"], RATES, "adam"
        )
        for _ in range(2)
    )
    rows = batches()
    lost = rows._replace(reward=rows.reward.clone())
    lost.reward[1] = float("nan")
    loss, _ = broken.update(lost)
    clean.update(rows)
    assert torch.isfinite(loss).tolist() == [True, False, True]
    for run in (0, 2):
        for name, leaf in clean.network.of_run(run).items():
            assert torch.equal(broken.network.of_run(run)[name], leaf)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_recorded_updates_of_a_population_are_its_updates_under_any_rates(optimizer):
    recordings = []

    def played_back(work, device):
        recordings.append(work)
        return work

    taught, plain = (
        StackedLearner(
            [network(run) for run in range(RUNS)], CONTROL_RULES["qrc"], RATES, optimizer
        )
        for _ in range(2)
    )
    taught._graph = UpdateGraph(taught._update, taught._drop_gradients, played_back)
    for number in range(WARM_UPS + 3):
        for each in (taught, plain):
            each.set_rates(1 / (1 + number))
        found, expected = taught.update(batches(number)), plain.update(batches(number))
        assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert len(recordings) == 1
    assert all(torch.equal(a, b) for a, b in zip(taught._leaves, plain._leaves))
    # What it takes over is not what was recorded.
    taught.load(plain.state())
    for number in range(WARM_UPS + 1):
        taught.update(batches(number))
    assert len(recordings) == 2


def test_an_update_of_a_population_starts_no_more_kernels_than_this():
    taught = StackedLearner(
        [network(run) for run in range(RUNS)], CONTROL_RULES["double-q"], RATES[:1] * 3, "adam"
    )
    rows = batches()
    taught._graph = UpdateGraph(
        taught._update, taught._drop_gradients, lambda work, device: work() or (lambda: None)
    )
    taught.update(rows)
    with Starts() as eager:
        taught.update(rows)
    assert 30 < sum(eager.found.values()) <= 60
    for _ in range(WARM_UPS):
        taught.update(rows)
    with Starts() as replayed:
        taught.update(rows)
    # The batch, dtype by dtype, is brought to its place, and the two results from theirs.
    assert dict(replayed.found) == {"_foreach_copy_": 3, "clone": 2}
