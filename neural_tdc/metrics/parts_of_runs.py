"""A population measured part by part: so many runs at a time as memory holds, a part a thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from neural_tdc.one_thread import one_thread
from neural_tdc.types import Evaluator, Parameters

# Bytes of features that an evaluator holds at a time; it takes a large population part by part.
MEMORY = 2**28


def in_groups(one: Callable[[Parameters], Any], observations: int) -> Callable[[Parameters], Any]:
    """Batch an evaluator of one run over all runs, part by part."""

    def evaluator(parameters: Parameters) -> Any:
        width = parameters.head.shape[1] * observations * parameters.head.element_size()
        return torch.vmap(one, chunk_size=max(1, MEMORY // (4 * width)))(parameters)

    return evaluator


def in_parts(evaluator: Evaluator, observations: int) -> Evaluator:
    """Evaluate so many runs at a time that a few numbers for each observation fit in the memory."""

    def evaluated(parameters: Parameters) -> dict[str, Tensor]:
        some = max(1, MEMORY // (64 * observations))
        if len(parameters.head) <= some:
            return evaluator(parameters)
        return _joined(list(map(evaluator, _pieces(parameters, lambda leaf: leaf.split(some)))))

    return evaluated


def _pieces(tree: Any, cut: Callable[[Tensor], Sequence[Tensor]]) -> list[Any]:
    """Cut every tensor of a tree along its leading axis, and return the trees of the pieces."""
    leaves, structure = tree_flatten(tree)
    return [tree_unflatten(list(piece), structure) for piece in zip(*map(cut, leaves))]


def _joined(parts: Sequence[Any]) -> Any:
    """Join trees of tensors along their leading axis."""
    return tree_map(lambda *leaves: torch.cat(leaves), *parts)


def on_threads(threads: int | None, of_runs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Share the runs among threads, each of which works alone: it waits for no other one.

    of_runs: from a tree of tensors with a leading run axis, on the CPU or not, to another one
    """
    if threads is None or threads == 1:
        return of_runs

    def of_part(runs: Any) -> Any:
        # Each thread has a mode of its own.
        with torch.no_grad():
            return of_runs(runs)

    def threaded(runs: Any) -> Any:
        first = tree_leaves(runs)[0]
        count = min(threads, len(first))
        if count == 1 or first.device.type != "cpu":
            return of_runs(runs)
        parts = _pieces(runs, lambda leaf: leaf.tensor_split(count))
        with one_thread(), ThreadPoolExecutor(count) as pool:
            return _joined(list(pool.map(of_part, parts)))

    return threaded
