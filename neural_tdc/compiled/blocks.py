"""A population on the CPU in blocks of runs, which learn at the same time, a thread each.

Runs do not touch one another, so a block needs to wait for no other one between two measurements:
neither at the end of an update nor of a kernel, where threads that share a kernel wait for the
slowest. A block's parameters stay in the cache of its core. It makes no difference to a run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from neural_tdc.compiled.compilation import compile_for_threads, compile_repeatable, tensors_of
from neural_tdc.compiled.kernel_loop import Loop
from neural_tdc.compiled.quick_trees import leaves_of, like_tree
from neural_tdc.types import StepSizes

# Runs of a block at most.
BLOCK_RUNS = 64
# Updates of one run from which on a call is worth several threads.
UPDATES_WORTH_THREADS = 2**10
# The runs of a block, about, where a program's kernels use all threads.
SHARED_BLOCK_RUNS = 1024
# Runs above which such a program stores a value that several loops read, see `compile_repeatable`.
SMALL = 256

Advance = Callable[[Any, Tensor, int], tuple[Any, Tensor]]


def block_updates(
    function: Callable[[Any, Any], Any],
    state: Any,
    experience: Any,
    base: StepSizes,
    threads: int | None = None,
) -> Advance:
    """Compile an update and return the function that takes a number of updates.

    function: ((state, update), (experience, base)) → (state, update) of a population
    threads:  that take blocks, as many as torch has if not given; a program that is not one for
              blocks uses those of torch

    The result takes (state, number of the first update, how many) and returns the new state and the
    number of the next update.
    """
    runs, threads = len(experience.stream_index), threads or torch.get_num_threads()
    zero = torch.zeros((), dtype=torch.int64)

    def blocks(size: int) -> list[Any]:
        # Transitions and table are shared; the rest has a run axis.
        own = {"stream_index": experience.stream_index, "key": experience.key}
        if experience.rows is not None:
            own["rows"] = experience.rows
        return [
            (experience._replace(**block), sizes)
            for block, sizes in zip(in_blocks(own, size), in_blocks(base, size))
        ]

    size = block_size(runs, threads)
    constants = blocks(size)
    loop = compile_for_threads(function, (in_blocks(state, size)[0], zero), constants[0])
    if loop is not None:
        bound = [tensors_of(each) for each in constants]
        return _at_the_same_time(loop, bound, runs, size, threads)
    size = runs // equal_blocks(runs)
    constants = blocks(size)
    first = in_blocks(state, size)[0], zero
    program = compile_repeatable(function, first, constants[0], store_shared=runs > SMALL)

    def advance(state: Any, update: Tensor, times: int) -> tuple[Any, Tensor]:
        moved = [
            program((block, update), constant, times)
            for block, constant in zip(in_blocks(state, size), constants)
        ]
        states, (after, *_) = zip(*moved)
        return tree_map(lambda *pieces: _joined(pieces, runs), *states), after

    return advance


def _at_the_same_time(
    loop: Loop, constants: Sequence[Sequence[Tensor]], runs: int, size: int, threads: int
) -> Advance:
    """Return what advances as many blocks at a time as there are threads."""

    def advance(state: Any, update: Tensor, times: int) -> tuple[Any, Tensor]:
        carried = [*(_full(leaf, size) for leaf in leaves_of(state)), update]
        worth = runs * times >= UPDATES_WORTH_THREADS
        *moved, after = loop(carried, constants, times, threads if worth else 1)
        if runs % size:
            moved = [leaf[:runs] for leaf in moved]
        return like_tree(state, iter(moved)), after

    return advance


def block_size(runs: int, threads: int) -> int:
    """Return the runs of a block: at most BLOCK_RUNS, and blocks for all threads alike."""
    blocks = threads * -(-runs // (threads * BLOCK_RUNS))
    return -(-runs // blocks)


def equal_blocks(runs: int) -> int:
    """Return into how many equal blocks to cut a population, each of about SHARED_BLOCK_RUNS runs.

    1 where it has no divisor that leaves between half and twice as many.
    """
    counts = range(-(-runs // (2 * SHARED_BLOCK_RUNS)), 2 * runs // SHARED_BLOCK_RUNS + 1)
    fitting = [count for count in counts if runs % count == 0]
    return min(fitting, key=lambda count: abs(runs / count - SHARED_BLOCK_RUNS), default=1)


def in_blocks(population: Any, size: int) -> list[Any]:
    """Cut a tree of tensors with a leading run axis into blocks of `size` runs.

    The last run is repeated until the last block is full.
    """
    leaves, structure = tree_flatten(population)
    pieces = zip(*(_full(leaf, size).split(size) for leaf in leaves))
    return [tree_unflatten(list(piece), structure) for piece in pieces]


def _full(leaf: Tensor, size: int) -> Tensor:
    missing = -len(leaf) % size
    return torch.cat([leaf, leaf[-1:].expand(missing, *leaf.shape[1:])]) if missing else leaf


def _joined(pieces: Sequence[Tensor], runs: int) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))[:runs]
