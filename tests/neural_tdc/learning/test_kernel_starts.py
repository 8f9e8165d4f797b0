"""How many kernels an update starts on a device, and what its compiled form brings from the host.

A GPU's kernels of small networks take less time than the host takes to start them: their number is
what such an update costs. These are bounds: a change that needs more of them is to be seen.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from neural_tdc.compiled.compilation import traced
from neural_tdc.compiled.cuda_graphs import UNROLLED, graph_loop
from neural_tdc.compiled.private_compiler import compiler
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import updates
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import IidSampling, MarkovSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Transition
from tests.device_modes import Starts

RUNS, LENGTH, STATE = 4, 13, 8
# Of one update with a draw from the stream, kernel by kernel.
EAGER = {"td": 110, "tdc": 129, "tdrc": 124}


def problem(name, optimizer="sgd", device="cpu", batch=1):
    """Return (function, carried, constant) as the learner compiles it."""
    g = torch.Generator().manual_seed(0)
    observation, reward = torch.randn(2, LENGTH + 1, STATE, generator=g), torch.ones(2, LENGTH)
    stream = Transition(
        observation[:, :-1].contiguous(),
        reward,
        0.9 * reward,
        observation[:, 1:].contiguous(),
        reward,
        0 * reward,
    )
    stream = Transition(*(leaf.to(device) for leaf in stream))
    algorithm, state = prepare(
        RULES[name],
        lambda shape: mlp(shape, 16, (32,)),
        observation[0],
        runs=RUNS,
        seed=0,
        optimizers=part_optimizers(optimizer),
        device=device,
    )
    index = torch.arange(RUNS) % 2
    seen = Experience(stream, None, index.to(device), keys(0, 2, "sampling")[index].to(device))
    sizes = base_steps(algorithm.rule, (0.01, 0.1, 0.1), RUNS, stream.reward)
    sampling = MarkovSampling() if algorithm.rule.ordered else IidSampling(batch)
    advance = updates(algorithm, schedule("constant"), sampling)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    return (
        lambda carried, constant: advance(carried[0], constant[0], carried[1], constant[1]),
        (state, zero),
        (seen, sizes),
    )


@pytest.mark.parametrize(("name", "bound"), EAGER.items())
def test_an_eager_update_starts_no_more_kernels_than_this(name, bound):
    function, carried, constant = problem(name)
    with torch.no_grad(), Starts() as starts:
        function(carried, constant)
    assert bound - 20 < sum(starts.found.values()) <= bound


def test_an_update_within_a_graph_starts_less_than_one_kernel():
    function, carried, constant = problem("tdc")
    recorded = []

    def played(work, device):
        recorded.append(work)
        return lambda: None

    repeat = graph_loop(lambda each: function(each, constant), carried, played)
    with Starts() as starts:
        repeat(carried, 10 * UNROLLED)
    # What is carried is brought to its place and back, once for all the updates.
    assert sum(starts.found.values()) <= 2 + len(tree_leaves(carried))
    assert len(recorded) == 2


@pytest.mark.parametrize(
    ("name", "optimizer"), [("tdc", "adam"), ("generalized", "sgd"), ("semi_gradient+lstd", "sgd")]
)
def test_a_compiled_update_is_a_graph_of_one_device(name, optimizer):
    function, carried, constant = problem(name, optimizer, "meta")
    with torch.no_grad():
        graph = traced(function, carried, constant, compiler())
    held = [node.target for node in graph.graph.nodes if node.op == "get_attr"]
    found, named = [getattr(graph, name) for name in held], {torch.device("meta")}
    for node in graph.graph.nodes:
        leaves = [leaf for leaf in tree_leaves(node.meta.get("val")) if hasattr(leaf, "device")]
        # A single number is written into the program.
        found += [leaf for leaf in leaves if leaf.dim() > 0]
        named.add(node.kwargs.get("device") or torch.device("meta"))
    devices = {leaf.device.type for leaf in found} | {device.type for device in named}
    assert devices == {"meta"}
    # Adam's table is all that a program holds itself.
    assert len(held) <= (0 if optimizer == "sgd" else 3)
