"""Everything an update touches lies on one device, and nothing in it waits for that device.

The real update is run on the device "meta", where every question to the host raises by itself,
inside a mode that raises where two devices meet. Where there is a GPU, its results are compared
with the CPU's.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.learner import (
    diverged_runs,
    divergence_limit,
    learn,
    magnitude,
    updates,
    without,
)
from neural_tdc.learning.optimisers import Optimizer
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import Experience, IidSampling, MarkovSampling, ReplaySampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.metrics.evaluators import Truth, sample_evaluator
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Transition

RUNS, STREAMS, LENGTH, ROWS, STATE, FEATURE = 3, 2, 13, 11, 4, 5
NAMES = [*RULES, "semi_gradient+lstd", "generalized+lstd", "mspbe+htd"]
OPTIMIZERS = {"sgd": Optimizer(), "rmsprop": Optimizer("rmsprop", "rmsprop", "rmsprop")}


def to(tree, device):
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, tree)


def experience(dtype=torch.float32, table=True):
    g = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64).to(dtype)

    states = 2 * numbers(ROWS, STATE) - 1
    rows = torch.randint(ROWS, (STREAMS, LENGTH + 1), generator=g)
    here, there = rows[:, :-1], rows[:, 1:]
    transitions = Transition(
        here if table else states[here],
        numbers(STREAMS, LENGTH),
        0.9 * (numbers(STREAMS, LENGTH) < 0.8).to(dtype),
        there if table else states[there],
        2 * numbers(STREAMS, LENGTH),
        (numbers(STREAMS, LENGTH) < 0.2).to(dtype),
    )
    stream_index = torch.tensor([0, 1, 0])
    return Experience(
        transitions, states if table else None, stream_index, keys(0, STREAMS, "s")[stream_index]
    )


def population(name, dtype=torch.float32, optimizer=OPTIMIZERS["sgd"], constraint="none", body=mlp):
    rule = RULES[name] if isinstance(name, str) else name
    example = torch.linspace(-1, 1, 6 * STATE).view(6, STATE).to(dtype)
    make = None if body is None else lambda shape: body(shape, FEATURE, (6,))
    algorithm, state = prepare(
        rule, make, example, runs=RUNS, seed=0, optimizer=optimizer, constraint=constraint
    )
    return algorithm, state, base_steps(algorithm.rule, (0.01, 0.05, 0.1), RUNS, example)


def samplings(name):
    if name == "etd":
        return [MarkovSampling()]
    return [MarkovSampling(3), IidSampling(4), ReplaySampling(4, 6)]


def advance_on(device, name, sampling, mode, constraint="none", count=1, **options):
    """Take updates on a device and return the new population, the learner's questions asked."""
    algorithm, state, sizes = population(name, constraint=constraint, **options)
    state, sizes, seen = (to(tree, device) for tree in (state, sizes, experience()))
    update = torch.tensor(5, device=device)
    with torch.no_grad(), mode:
        limit = divergence_limit(state.parameters)
        advance = updates(algorithm, schedule("general"), sampling, count)
        state, update = advance(state, seen, update, sizes)
        lost = diverged_runs(state.parameters, limit)
        magnitude(without(state.parameters, lost))
    return state, update, lost


@pytest.mark.parametrize("name", NAMES)
def test_an_update_stays_on_its_device_and_asks_the_host_nothing(one_device, name):
    kinds = samplings(name) * (1 if len(samplings(name)) > 1 else 2)
    for sampling, constraint, optimizer in zip(
        kinds, ["ball:3", "box:2", "none"], ["sgd", "rmsprop", "rmsprop"]
    ):
        state, update, lost = advance_on(
            "meta", name, sampling, one_device, constraint, optimizer=OPTIMIZERS[optimizer]
        )
        leaves = [*tree_leaves(state), update, lost]
        assert {leaf.device.type for leaf in leaves} == {"meta"}


@pytest.mark.parametrize("psi", ["random", "fourier", "observation", "snapshot", "present"])
def test_every_kind_of_psi_stays_on_its_device(one_device, psi):
    rule = RULES["generalized"].with_settings(psi=psi, psi_width=7)
    state, *_ = advance_on("meta", rule, IidSampling(3), one_device)
    assert {leaf.device.type for leaf in tree_leaves(state)} == {"meta"}


@pytest.mark.parametrize("name", ["tdc", "semi_gradient+lstd", "nonlinear-tdc"])
def test_given_features_stay_on_their_device(one_device, name):
    state, *_ = advance_on("meta", name, MarkovSampling(3), one_device, body=None)
    assert {leaf.device.type for leaf in tree_leaves(state)} == {"meta"}


class Shifted(torch.nn.Module):
    """Add a vector that is not learned."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(FEATURE))

    def forward(self, feature):
        return feature + self.shift


def test_buffers_of_a_body_are_brought_to_the_device(one_device):
    def with_buffer(shape, *_):
        return torch.nn.Sequential(torch.nn.Linear(*shape, FEATURE), Shifted())

    state, *_ = advance_on("meta", "tdc", IidSampling(3), one_device, body=with_buffer)
    assert {leaf.device.type for leaf in tree_leaves(state)} == {"meta"}


def test_a_judge_stays_on_its_device(one_device):
    algorithm, state, _ = population("tdc")
    seen = experience(table=False).transitions
    held_out = Transition(*(leaf.flatten(0, 1) for leaf in seen))
    weighting = torch.full((4,), 0.25, dtype=torch.float64)
    truth = Truth(held_out.observation[:4], weighting, 3 * weighting, 0.01)
    truth = Truth(*to(tuple(truth), "meta"))
    evaluator = sample_evaluator(
        Transition(*to(tuple(held_out), "meta")), truth, algorithm.features, algorithm.rule
    )
    parameters = tree_map(lambda leaf: leaf.double().to("meta"), state.parameters)
    with torch.no_grad(), one_device:
        values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}
    assert {value.shape for value in values.values()} == {(RUNS,)}


# --- that this test can fail


class Tampered(Rule):
    """TD with one operation too many."""

    name = "tampered"

    def __init__(self, tamper):
        self.tamper = tamper

    def directions(self, features, parameters, batch, state):
        directions = RULES["td"].directions(features, parameters, batch)
        return directions._replace(head=self.tamper(directions.head))


TAMPERS = {
    "a sum with a CPU tensor": lambda head: head + torch.ones(FEATURE),
    "a product with a CPU matrix": lambda head: torch.eye(FEATURE) @ head,
    "a CPU index": lambda head: head[torch.arange(FEATURE)],
    "a number asked for": lambda head: head * head.sum().item(),
    "a decision": lambda head: head if head.sum() > 0 else -head,
    "a mask": lambda head: torch.zeros_like(head).index_put((head > 0,), head[head > 0]),
}


@pytest.mark.parametrize("tamper", TAMPERS.values(), ids=TAMPERS.keys())
def test_an_update_that_mixes_devices_or_waits_is_found(one_device, tamper):
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        advance_on("meta", Tampered(tamper), IidSampling(3), one_device)


def test_the_same_update_untampered_passes_and_a_chunk_of_three_too(one_device):
    rule = Tampered(lambda head: 1.0 * head)
    advance_on("meta", rule, IidSampling(3), one_device, count=3)


# --- on a real device

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def learned(device, name, dtype, sampling, optimizer):
    """Learn for 25 updates on a device; return the measurements' values and the parameters."""
    algorithm, state, sizes = population(name, dtype, optimizer, "ball:20")
    state, sizes, seen = (to(tree, device) for tree in (state, sizes, experience(dtype)))
    flat = experience(dtype, table=False).transitions
    held_out = Transition(*(leaf.flatten(0, 1).to(device) for leaf in flat))
    *_, last = learn(
        algorithm,
        state,
        seen,
        sizes,
        schedule("general"),
        sampling,
        sample_evaluator(held_out, None, algorithm.features, algorithm.rule),
        steps=25,
        measure_every=10,
        limit=divergence_limit(state.parameters),
    )
    return last.values, to(last.state.parameters, "cpu")


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_learns_what_the_cpu_learns(name, optimizer):
    torch.backends.cuda.matmul.allow_tf32 = False
    optimizer = optimizer._replace(eps=1e-2)
    # RMSProp in single precision amplifies rounding: only double precision is compared there.
    dtypes = {torch.float64: 1e-10}
    if optimizer.body == "sgd":
        dtypes[torch.float32] = 1e-4
    for dtype, tolerance in dtypes.items():
        for sampling in samplings(name):
            values, here = learned("cpu", name, dtype, sampling, optimizer)
            others, there = learned("cuda", name, dtype, sampling, optimizer)
            for one, other in zip(tree_leaves(here), tree_leaves(there)):
                assert torch.allclose(one, other, rtol=tolerance, atol=tolerance)
            for key in ("error/rmspbe", "error/rmstde", "norm/head"):
                assert torch.allclose(
                    values[key], others[key], rtol=100 * tolerance, atol=100 * tolerance
                )


@GPU
@pytest.mark.gpu
def test_a_gpu_update_makes_no_host_wait():
    algorithm, state, sizes = population("tdc")
    state, sizes, seen = (to(tree, "cuda") for tree in (state, sizes, experience()))
    advance = updates(algorithm, schedule("general"), IidSampling(4))
    update = torch.tensor(0, device="cuda")
    with torch.no_grad():
        advance(state, seen, update, sizes)
        torch.cuda.set_sync_debug_mode("error")
        try:
            advance(state, seen, update, sizes)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_learner_on_the_cpu_gives_what_the_gpu_is_compared_with():
    # The comparison itself, run where there is no GPU either: twice the same, and not at rest.
    values, one = learned("cpu", "tdc", torch.float64, IidSampling(4), OPTIMIZERS["sgd"])
    _, two = learned("cpu", "tdc", torch.float64, IidSampling(4), OPTIMIZERS["sgd"])
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(two)))
    assert float(one.head.abs().max()) > 1e-3
    assert {"error/rmspbe", "error/rmstde", "norm/head"} <= set(values)
