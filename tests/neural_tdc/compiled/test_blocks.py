"""Blocks of runs that learn at the same time learn what the population would as a whole."""

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from neural_tdc.compiled import blocks
from neural_tdc.compiled.blocks import block_size, in_blocks
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import repeated_updates
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import IidSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, Transition

RUNS = 7


def uncompiled(function, carried, constant, **_):
    def repeat(carried, constant, calls):
        for _ in range(calls):
            carried = function(carried, constant)
        return carried

    return repeat


def population(runs=RUNS, time=5, width=3):
    draw = torch.Generator().manual_seed(0)
    feature = torch.randn(runs, time + 1, width, generator=draw, dtype=torch.float64)
    ones = torch.ones(runs, time, dtype=torch.float64)
    stream = Transition(feature[:, :-1], ones, 0.9 * ones, feature[:, 1:], ones, 0 * ones)
    experience = Experience(stream, None, torch.arange(runs), keys(0, runs, "sampling"))
    algorithm, state = prepare(RULES["tdc"], None, feature[0], runs=runs, seed=0)
    base = StepSizes(*(torch.linspace(0.01, 0.1, runs, dtype=torch.float64) for _ in range(3)))
    return algorithm, experience, base, state


def learned(updates=7, **threads):
    algorithm, experience, base, state = population()
    advance = repeated_updates(
        algorithm,
        schedule("general"),
        IidSampling(2),
        experience,
        base,
        state,
        compiled=True,
        **threads,
    )
    return advance(state, torch.tensor(0), updates)


@pytest.fixture
def threads(monkeypatch):
    """Return the numbers of threads that updates were to be taken by; three are at hand."""
    asked = []

    def watched(function, carried, constant):
        repeat = uncompiled(function, carried, constant)
        leaves, structure = tree_flatten(carried)
        bound, whole = tree_flatten(constant)
        tensors = [number for number, leaf in enumerate(bound) if isinstance(leaf, torch.Tensor)]

        def of_block(carried, constant, times):
            assert [leaf.shape for leaf in carried] == [leaf.shape for leaf in leaves]
            given = list(bound)
            for number, leaf in zip(tensors, constant, strict=True):
                given[number] = leaf
            trees = tree_unflatten(carried, structure), tree_unflatten(given, whole)
            return tree_flatten(repeat(*trees, times))[0]

        def loop(carried, constants, times, threads):
            asked.append(threads)
            *state, update = carried
            pieces = zip(*(leaf.split(len(leaf) // len(constants)) for leaf in state))
            moved = [
                of_block([*piece, update], constant, times)
                for piece, constant in zip(pieces, constants, strict=True)
            ]
            *states, updates = zip(*moved)
            return [*map(torch.cat, states), updates[0]]

        return loop

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(blocks, "compile_for_threads", watched)
    return asked


def test_a_population_learns_in_blocks_as_it_would_whole(monkeypatch, threads):
    monkeypatch.setattr(blocks, "UPDATES_WORTH_THREADS", 7 * RUNS)
    blocked, after = learned()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    whole, _ = learned()
    # A program may have more of them take blocks than torch has.
    learned(threads=2)
    assert threads == [3, 1, 2]
    assert int(after) == 7
    assert torch.equal(blocked.parameters.head, whole.parameters.head)
    assert torch.equal(blocked.parameters.auxiliary["tdc"], whole.parameters.auxiliary["tdc"])
    assert len(blocked.parameters.head.unique(dim=0)) == RUNS


def test_a_few_updates_are_taken_by_the_thread_that_asks_for_them(monkeypatch, threads):
    monkeypatch.setattr(blocks, "UPDATES_WORTH_THREADS", 7 * RUNS + 1)
    learned()
    assert threads == [1]


def test_a_program_for_all_threads_learns_block_after_block(monkeypatch):
    sizes = []

    def noted(function, carried, constant, **_):
        sizes.append(len(carried[0].parameters.head))
        return uncompiled(function, carried, constant)

    monkeypatch.setattr(blocks, "compile_for_threads", lambda *_: None)
    monkeypatch.setattr(blocks, "compile_repeatable", noted)
    whole, _ = learned()
    monkeypatch.setattr(blocks, "SHARED_BLOCK_RUNS", 1)
    single, _ = learned()
    assert sizes == [7, 1]
    assert torch.equal(whole.parameters.head, single.parameters.head)


@pytest.mark.parametrize(
    ("runs", "threads", "size"),
    [(1, 4, 1), (3, 2, 2), (64, 2, 32), (128, 2, 64), (130, 2, 33), (1000, 1, 63)],
)
def test_blocks_are_small_and_alike_for_all_threads(runs, threads, size):
    assert blocks.BLOCK_RUNS == 64
    assert block_size(runs, threads) == size


def test_the_last_block_is_filled_by_the_last_run():
    tree = {"a": torch.arange(10).view(5, 2), "b": torch.arange(5)}
    pieces = in_blocks(tree, 2)
    assert [piece["b"].tolist() for piece in pieces] == [[0, 1], [2, 3], [4, 4]]
    assert pieces[2]["a"].tolist() == [[8, 9], [8, 9]]
