"""A small population and its experience, of any rule and optimiser, for tests of devices."""

import torch
from torch.utils._pytree import tree_map

from neural_tdc.learning.experience import Experience
from neural_tdc.learning.optimisers import PartOptimizers, adam, limited, part_optimizers, rmsprop
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import IidSampling, MarkovSampling, ReplaySampling
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Transition

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
