"""What is learned on a GPU is what the CPU learns, and that is what each run learns alone."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.evaluation import evaluate
from neural_tdc.learning.algorithm import step
from neural_tdc.learning.learner import divergence_limit, learn, updates
from neural_tdc.learning.sampling import IidSampling
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import sample_evaluator
from neural_tdc.metrics.samples import in_rows
from neural_tdc.types import StepSizes, Transition
from tests.neural_tdc.learning.device_population import (
    LARGE_EPS,
    LENGTH,
    NAMES,
    OPTIMIZERS,
    RUNS,
    experience,
    population,
    samplings,
    to,
)

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
