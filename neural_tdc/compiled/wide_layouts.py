"""How matrices that a compiled program carries lie in memory: the longer axis in the vectors.

A layer's weights are [run, output, input]. Where a layer has fewer inputs than outputs, vectors
along its inputs are short, and each output is a sum across the lanes of a vector, which takes
longer than its products. Such a matrix is carried as [run, input, output]: each vector then holds
as many outputs as it has lanes. It is the same matrix, in another order in memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def to_be_turned(leaf: Any) -> bool:
    """Return whether this is a matrix of each run whose last axis is the shorter one."""
    return isinstance(leaf, Tensor) and leaf.dim() == 3 and leaf.shape[2] < leaf.shape[1]


def turned(leaves: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """Return the leaves, those with a flag transposed, without copying."""
    return [leaf.mT if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]


def of_turned(
    function: Callable[[Any, Any], Any], flags: Sequence[bool], force_stride: Any
) -> Callable[[Any, Any], Any]:
    """Return `function(carried, constant) -> carried` whose carried leaves are turned, both times.

    force_stride: see `neural_tdc.compiled.private_compiler.Compiler`
    """

    def laid(leaf: Tensor) -> Tensor:
        """Return what is computed, transposed; else it would be computed as it is, and copied."""
        _, rows, columns = leaf.shape
        stored: Tensor = force_stride(leaf, (rows * columns, 1, rows))
        return stored.mT

    def turned_function(carried: Any, constant: Any) -> Any:
        given, structure = tree_flatten(carried)
        seen = turned(given, flags)
        result = function(tree_unflatten(seen, structure), constant)
        found, structure = tree_flatten(result)
        moved = [
            # What does not change is given back.
            same if after is before else (laid(after) if flag else after)
            for same, before, after, flag in zip(given, seen, found, flags, strict=True)
        ]
        return tree_unflatten(moved, structure)

    return turned_function
