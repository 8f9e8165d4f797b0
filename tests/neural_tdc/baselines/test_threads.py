"""Candidates do not depend on the threads that compute them."""

import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.candidates import Folds, least_squares_group
from neural_tdc.baselines.random_features import random_tanh
from neural_tdc.randomness import generator

F64 = torch.float64


@pytest.fixture
def threads():
    """Return what sets torch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def parts(count, time=60):
    """Return the parts of a log, of two-dimensional walks with sines as rewards."""
    source = torch.Generator().manual_seed(4)
    found = []
    for _ in range(count):
        walk = torch.randn(time + 1, 2, generator=source, dtype=F64).cumsum(0) / 5
        first = torch.zeros(time, dtype=F64)
        first[::20] = 1
        ones = torch.ones(time, dtype=F64)
        found.append(Transition(walk[:-1], walk[1:, 0].sin(), 0.9 * ones, walk[1:], ones, first))
    return found


@pytest.mark.parametrize("shared", [True, False])
def test_workers_find_the_heads_that_one_thread_finds_to_the_bit(threads, shared):
    threads(1)
    cut, learned = parts(3), [[1, 2], [0, 2], [0, 1]]
    blocks = [[random_tanh(2, 7, 1.0, generator(0, str(fold)))] for fold in range(3)]
    if shared:
        blocks = [blocks[0]] * 3
    alone, together = (
        least_squares_group("x", Folds(cut, learned, workers), blocks) for workers in (1, 4)
    )
    assert alone.head.shape == (3, 30, 8)
    assert torch.equal(alone.head, together.head)
    # Each fold leaves out a part of its own.
    assert not torch.equal(alone.head[0], alone.head[1])
