"""Everything an update touches lies on one device, and nothing in it waits for that device.

The real update is run on the device "meta", where every question to the host raises by itself,
inside a mode that raises where two devices meet. Where there is a GPU, its results are compared
with the CPU's.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from agents.action_chain import action_chain_task
from agents.policy_evaluation import chain_task, experience_on
from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from neural_tdc.evaluation import evaluate
from neural_tdc.learning.algorithm import step
from neural_tdc.learning.learner import (
    diverged_runs,
    divergence_limit,
    learn,
    magnitude,
    updates,
    without,
)
from neural_tdc.learning.optimisers import PartOptimizers, adam, limited, part_optimizers, rmsprop
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import Experience, IidSampling, MarkovSampling, ReplaySampling
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import Truth, chain_evaluator, sample_evaluator
from neural_tdc.metrics.samples import Sample, in_rows
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import StepSizes, Transition

RUNS, STREAMS, LENGTH, ROWS, STATE, FEATURE = 3, 2, 13, 11, 4, 5
NAMES = [*RULES, "semi_gradient+lstd", "generalized+lstd", "mspbe+htd"]
OPTIMIZERS = {
    "sgd": PartOptimizers(),
    "rmsprop": part_optimizers("rmsprop"),
    "adam": part_optimizers("adam", max_grad_norm=1.0),
    # Where results are compared, small mean squares must not enlarge what rounding they have.
    "rmsprop, large ε": PartOptimizers(*[rmsprop(eps=1e-2)] * 3),
    "adam, large ε": PartOptimizers(*[limited(adam(eps=1e-2), 1.0)] * 3),
}
LARGE_EPS = ("rmsprop, large ε", "adam, large ε")


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


def population(
    name,
    dtype=torch.float32,
    optimizer=OPTIMIZERS["sgd"],
    constraint="none",
    body=mlp,
    device="cpu",
):
    rule = RULES[name] if isinstance(name, str) else name
    example = torch.linspace(-1, 1, 6 * STATE).view(6, STATE).to(dtype)
    make = None if body is None else lambda shape: body(shape, FEATURE, (6,))
    algorithm, state = prepare(
        rule,
        make,
        example,
        runs=RUNS,
        seed=0,
        optimizers=optimizer,
        constraint=constraint,
        device=device,
    )
    return algorithm, state, base_steps(algorithm.rule, (0.01, 0.05, 0.1), RUNS, example.to(device))


def samplings(name):
    if name == "etd":
        return [MarkovSampling()]
    return [MarkovSampling(3), IidSampling(4), ReplaySampling(4, 6)]


def advance_on(device, name, sampling, mode, constraint="none", count=1, **options):
    """Take updates on a device and return the new population, the learner's questions asked."""
    algorithm, state, sizes = population(name, constraint=constraint, device=device, **options)
    seen = to(experience(), device)
    update = torch.tensor(5, device=device)
    with torch.no_grad(), mode:
        limit = divergence_limit(state.parameters)
        advance = updates(algorithm, schedule("general"), sampling)
        for _ in range(count):
            state, update = advance(state, seen, update, sizes)
        lost = diverged_runs(state.parameters, limit)
        magnitude(without(state.parameters, lost))
    return state, update, lost


@pytest.mark.parametrize("name", NAMES)
def test_an_update_stays_on_its_device_and_asks_the_host_nothing(one_device_single, name):
    kinds = samplings(name) * (1 if len(samplings(name)) > 1 else 2)
    for sampling, constraint, optimizer in zip(
        kinds, ["ball:3", "box:2", "none"], ["sgd", "rmsprop", "adam"]
    ):
        state, update, lost = advance_on(
            "meta", name, sampling, one_device_single, constraint, optimizer=OPTIMIZERS[optimizer]
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


def test_buffers_of_a_body_lie_on_the_device_with_it(one_device):
    def with_buffer(shape, *_):
        return torch.nn.Sequential(torch.nn.Linear(*shape, FEATURE), Shifted())

    algorithm, state, sizes = population("tdc", body=with_buffer, device="meta")
    seen, update = to(experience(), "meta"), torch.tensor(5, device="meta")

    def take_an_update(algorithm):
        with torch.no_grad(), one_device:
            advance = updates(algorithm, schedule("general"), IidSampling(3))
            return advance(state, seen, update, sizes)[0]

    assert {leaf.device.type for leaf in tree_leaves(take_an_update(algorithm))} == {"meta"}
    on_host = torch.nn.Sequential(torch.nn.Linear(STATE, FEATURE), Shifted())
    with pytest.raises(AssertionError, match="cpu and meta"):
        take_an_update(algorithm._replace(features=feature_map(on_host)))


def test_an_evaluator_on_samples_stays_on_its_device(one_device_at_rest):
    algorithm, state, _ = population("tdc")
    seen = experience(table=False).transitions
    held_out = Transition(*(leaf.flatten(0, 1) for leaf in seen))
    weighting = torch.full((4,), 0.25, dtype=torch.float64)
    truth = Truth(held_out.observation[:4], weighting, 3 * weighting, 0.01)
    truth = Truth(*to(tuple(truth), "meta"))
    sample = Sample(*to(tuple(in_rows(held_out)), "meta"))
    evaluator = sample_evaluator(sample, truth, algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double().to("meta"), state.parameters)
    with torch.no_grad(), one_device_at_rest:
        values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}
    assert {value.shape for value in values.values()} == {(RUNS,)}


def test_an_evaluator_on_a_chain_stays_on_its_device(one_device_at_rest):
    mdp = problem("boyan")
    algorithm, state = prepare(RULES["tdc"], None, mdp.features, runs=RUNS, seed=0)
    exact = chain(mdp)
    for table in ("transition", "reward", "weighting"):
        # Its own checks ask for numbers.
        object.__setattr__(exact, table, getattr(exact, table).to("meta"))
    evaluator = chain_evaluator(exact, mdp.features.to("meta"), algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double().to("meta"), state.parameters)
    with torch.no_grad(), one_device_at_rest:
        values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}
    assert {value.shape for value in values.values()} == {(RUNS,)}


def test_an_evaluator_brings_parameters_to_where_its_data_are(one_device_at_rest):
    algorithm, state, _ = population("tdc")
    held_out = Transition(*(leaf.flatten(0, 1) for leaf in experience(table=False).transitions))
    sample = Sample(*to(tuple(in_rows(held_out)), "meta"))
    evaluator = sample_evaluator(sample, None, algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double(), state.parameters)
    values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}


@pytest.mark.parametrize("make", [chain_task, action_chain_task])
def test_a_task_of_a_chain_is_simulated_on_the_cpu_and_lies_on_its_device(make):
    options = {"given": False, "runs": 3, "transitions": 5, "seed": 0}
    task = make(problem("boyan"), **options)
    moved = experience_on(task.experience, torch.device("meta"))
    leaves = [leaf for leaf in tree_leaves(moved) if isinstance(leaf, torch.Tensor)]
    assert {leaf.device.type for leaf in leaves} == {"meta"}
    assert len(leaves) == len(tree_leaves(task.experience)) - sum(
        not isinstance(leaf, torch.Tensor) for leaf in tree_leaves(task.experience)
    )
    streams = simulate_streams(problem("boyan"), 3, 5, 0, "meta")
    assert {leaf.device.type for leaf in tree_leaves(streams)} == {"meta"}


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
    "a vector brought from the host": lambda head: head + torch.ones(FEATURE).to(head.device),
    "a list brought from the host": lambda head: head + torch.tensor([1.0] * FEATURE).to(head),
    "a system whose matrix is checked": lambda head: torch.linalg.solve(
        torch.eye(FEATURE, device=head.device), head
    ),
    "a decomposition": lambda head: (
        head * torch.linalg.eigvalsh(torch.eye(FEATURE, device=head.device))
    ),
    "numbers of the host": lambda head: head + torch.tensor([1.0] * FEATURE, device=head.device),
    "numbers like a tensor": lambda head: head + head.new_tensor([1.0] * FEATURE),
    "a number of the host": lambda head: head * torch.tensor(2.0).to(head.device),
    "an index of the host": lambda head: head[[*range(FEATURE)]],
    "a pseudoinverse": lambda head: torch.linalg.pinv(head[None])[:, 0],
    "an inverse that is checked": lambda head: (
        torch.linalg.inv(torch.eye(FEATURE, device=head.device)) @ head
    ),
    "draws that are checked": lambda head: (
        head * torch.multinomial(torch.ones(FEATURE, device=head.device), FEATURE)
    ),
    "double precision": lambda head: head.double().float(),
    "a mask": lambda head: torch.zeros_like(head).index_put((head > 0,), head[head > 0]),
}


@pytest.mark.parametrize("tamper", TAMPERS.values(), ids=TAMPERS.keys())
def test_an_update_that_mixes_devices_or_waits_is_found(one_device_single, tamper):
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        advance_on("meta", Tampered(tamper), IidSampling(3), one_device_single)


def test_the_same_update_untampered_passes_and_a_chunk_of_three_too(one_device_single):
    rule = Tampered(lambda head: 1.0 * head)
    advance_on("meta", rule, IidSampling(3), one_device_single, count=3)


# --- on a real device

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def learned(device, name, dtype, sampling, optimizer, steps=25):
    """Learn for some updates on a device; return the measurements' values and the parameters."""
    algorithm, state, sizes = population(name, dtype, optimizer, "ball:20", device=device)
    seen = to(experience(dtype), device)
    flat = experience(dtype, table=False).transitions
    held_out = Transition(*(leaf.flatten(0, 1).to(device) for leaf in flat))
    *_, last = learn(
        algorithm,
        state,
        seen,
        sizes,
        schedule("general"),
        sampling,
        sample_evaluator(in_rows(held_out), None, algorithm.features, algorithm.rule),
        steps=steps,
        measured=measured_steps(steps, 10),
        limit=divergence_limit(state.parameters),
    )
    return last.values, to(last.state.parameters, "cpu")


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[each] for each in ("sgd", *LARGE_EPS)])
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_learns_what_the_cpu_learns(name, optimizer):
    torch.backends.cuda.matmul.allow_tf32 = False
    # RMSProp and Adam in single precision amplify rounding: only double precision is compared.
    dtypes = {torch.float64: 1e-10}
    if optimizer is OPTIMIZERS["sgd"]:
        dtypes[torch.float32] = 1e-4
    for dtype, tolerance in dtypes.items():
        # Every scheme once in double precision; else one is enough, and ten minutes are few.
        plain = optimizer is OPTIMIZERS["sgd"] and dtype == torch.float64
        for sampling in samplings(name) if plain else samplings(name)[:1]:
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
@pytest.mark.parametrize("compiled", [False, True])
def test_errors_measured_on_the_host_are_those_of_the_gpu(compiled):
    stream = Transition(*(leaf[0] for leaf in experience(table=False).transitions))
    found = [
        evaluate(
            stream,
            steps=30,
            runs=RUNS,
            held_out=0.4,
            device="cuda",
            measure_on=place,
            compiled=compiled,
        ).measurements
        for place in ("device", "host")
    ]
    for name, values in found[0].items():
        assert torch.allclose(values, found[1][name], rtol=1e-6, atol=1e-6, equal_nan=True)


@GPU
@pytest.mark.gpu
def test_a_gpu_update_makes_no_host_wait():
    algorithm, state, sizes = population("tdc", device="cuda")
    seen = to(experience(), "cuda")
    advance = updates(algorithm, schedule("general"), IidSampling(4))
    update = torch.tensor(0, device="cuda")
    with torch.no_grad():
        advance(state, seen, update, sizes)
        torch.cuda.set_sync_debug_mode("error")
        try:
            advance(state, seen, update, sizes)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def one_run_alone(run, name, sampling, optimizer, steps):
    """Take the same updates of one run without a population; return its parameters."""
    algorithm, state, sizes = population(name, torch.float64, optimizer, "ball:20")
    state, sizes = (tree_map(lambda leaf: leaf[run], tree) for tree in (state, sizes))
    seen = experience(torch.float64, table=False)
    stream = tree_map(lambda leaf: leaf[seen.stream_index[run]], seen.transitions)
    factors = schedule("general")
    with torch.no_grad():
        for update in range(steps):
            number = torch.tensor(update)
            (times,) = sampling.times(seen.key[run : run + 1], number, LENGTH)
            batch = Transition(*(leaf[times] for leaf in stream))
            now = StepSizes(*(size * each for size, each in zip(sizes, factors(number))))
            state = step(algorithm, state, batch, now)
    return state.parameters


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "sgd") for name in NAMES), *(("tdc", name) for name in LARGE_EPS)],
)
def test_a_run_learns_in_a_population_what_it_learns_alone(name, optimizer):
    # What a GPU is compared with is checked against steps that no learner takes.
    options = (OPTIMIZERS[optimizer], 8)
    for sampling in samplings(name):
        _, many = learned("cpu", name, torch.float64, sampling, *options)
        alone = one_run_alone(RUNS - 1, name, sampling, *options)
        for one, other in zip(tree_leaves(alone), tree_leaves(many), strict=True):
            assert torch.allclose(one, other[-1], rtol=1e-10, atol=1e-10)
        assert float(many.head[-1].abs().max()) > 1e-4


def test_the_errors_that_a_gpu_is_compared_by_are_measured():
    values, _ = learned("cpu", "tdc", torch.float64, IidSampling(4), OPTIMIZERS["sgd"])
    for key in ("error/rmspbe", "error/rmstde", "norm/head"):
        assert bool((values[key] > 0).all())
