"""Updates of deep Q-learning that are recorded, and optimisers that are restored elsewhere."""

import numpy as np
import pytest
import torch

from agents.dqn.batch import Batch
from agents.dqn.learner import Learner
from agents.dqn.optimizers import OPTIMIZERS, load_optimizer, make_optimizer, optimizer_state
from agents.dqn.q_network import make_network
from agents.dqn.update_graph import UpdateGraph
from neural_tdc.compiled.cuda_graphs import WARM_UPS
from tests.device_modes import Starts

STATE, ACTION = 3, 4


def batch(seed, size=6, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(size, STATE, generator=g).to(device),
        torch.randint(ACTION, (size,), generator=g).to(device),
        torch.randn(size, generator=g).to(device),
        (0.9 * torch.randint(2, (size,), generator=g)).to(device),
        torch.randn(size, STATE, generator=g).to(device),
        np.arange(size),
    )


def learner(name="adam", device="cpu", **options):
    network = make_network("mlp", (STATE,), ACTION, seed=0, features=5, hidden=(7,)).to(device)
    optimizer = make_optimizer(name, network, 0.01, 0.03)
    return Learner(network, optimizer, max_grad_norm=1.0, **options)


def recorded(capture, name="adam"):
    taught = learner(name)
    taught._graph = UpdateGraph(taught._update, taught._drop_gradients, capture)
    return taught


def same_network(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.network.parameters(), other.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_recorded_updates_are_the_updates_under_any_rates_and_shapes(name):
    recordings = []

    def played_back(work, device):
        recordings.append(work)
        return work

    taught, plain = recorded(played_back, name), learner(name)
    for number in range(WARM_UPS + 5):
        # Another number of transitions is not what was recorded.
        rows = batch(number, size=2 if number == WARM_UPS + 2 else 6)
        for each in (taught, plain):
            each.set_rates(1 / (1 + number))
        found, expected = taught.update(rows), plain.update(rows)
        assert all(torch.equal(a, b) for a, b in zip(found, expected))
        if number == 1:
            for each in (taught, plain):
                each.sync_target()
    assert same_network(taught, plain.network)
    assert len(recordings) == 1


def test_a_learner_that_takes_over_a_state_records_anew():
    recordings = []
    taught = recorded(lambda work, device: recordings.append(work) or work)
    for number in range(WARM_UPS + 1):
        taught.update(batch(number))
    taught.load(taught.state())
    for number in range(WARM_UPS):
        taught.update(batch(number))
    assert len(recordings) == 1
    taught.update(batch(9))
    assert len(recordings) == 2


def test_an_update_that_cannot_be_recorded_is_taken_as_it_is():
    def refused(work, device):
        # What a recording leaves behind when it fails half-way.
        for parameter in taught.network.parameters():
            parameter.grad = torch.full_like(parameter, 1e6)
        raise RuntimeError("not permitted")

    taught, plain = recorded(refused), learner()
    for number in range(WARM_UPS):
        taught.update(batch(number))
    with pytest.warns(RuntimeWarning, match="cannot be recorded .* not permitted"):
        taught.update(batch(WARM_UPS))
    taught.update(batch(WARM_UPS + 1))
    for number in range(WARM_UPS + 2):
        plain.update(batch(number))
    assert same_network(taught, plain.network)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_another_device_saved_is_continued_in_the_own_way(name):
    one, other, plain = learner(name), learner(name), learner(name)
    for each in (one, plain):
        each.set_rates(0.5)
        each.update(batch(1))
    saved = optimizer_state(one.optimizer)
    assert [type(group["lr"]) for group in saved["param_groups"]] == [float, float]
    # As a GPU has it.
    there = {"fused": True, "capturable": True}
    groups = [
        {**group, **{way: there[way] for way in there.keys() & group.keys()}}
        for group in saved["param_groups"]
    ]
    load_optimizer(other.optimizer, {**saved, "param_groups": groups})
    other.network.load_state_dict(one.network.state_dict())
    other.update(batch(2))
    plain.update(batch(2))
    assert same_network(other, plain.network)
    found, expected = (
        [(group.get("fused"), group.get("capturable")) for group in each.optimizer.param_groups]
        for each in (other, plain)
    )
    assert found == expected


def test_a_rate_that_is_a_tensor_stays_the_tensor_that_an_update_reads():
    layer = torch.nn.Linear(2, 1)
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=rate, fused=True)
    state = optimizer_state(optimizer)
    load_optimizer(optimizer, {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.3}]})
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.3)


def test_an_update_starts_no_more_kernels_than_this_and_a_recorded_one_next_to_none():
    taught = recorded(lambda work, device: work() or (lambda: None))
    rows = batch(0)
    taught.update(rows)
    with Starts() as eager:
        taught.update(rows)
    assert 50 < sum(eager.found.values()) <= 63
    for _ in range(WARM_UPS):
        taught.update(rows)
    with Starts() as replayed:
        taught.update(rows)
    # The batch is brought to its place, and the two results from theirs.
    assert dict(replayed.found) == {"_foreach_copy_": 2, "clone": 2}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gpu_learns_by_a_recording_what_it_learns_without(name, precision):
    one, other = (
        learner(name, "cuda", graph=graph, precision=precision) for graph in (True, False)
    )
    for number in range(WARM_UPS + 6):
        for each in (one, other):
            each.set_rates(1 / (1 + number))
            each.update(batch(number, device="cuda"))
    assert one._graph is not None
    assert one._graph._replay is not None
    for a, b in zip(one.network.parameters(), other.network.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
