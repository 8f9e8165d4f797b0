"""Trees of tensors taken apart and put together in a tenth of the time that torch.utils takes.

A call of a compiled program takes a tree and returns one. Where it takes few updates of few runs,
torch's functions for all kinds of trees took longer than the updates.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def leaves_of(tree: Any) -> list[Any]:
    """Return the leaves of a tree, in the order of torch.utils._pytree."""
    if isinstance(tree, Tensor):
        return [tree]
    if _is_sequence(tree):
        return [leaf for part in tree for leaf in leaves_of(part)]
    if type(tree) is dict:
        return [leaf for part in tree.values() for leaf in leaves_of(part)]
    leaves: list[Any] = tree_flatten(tree)[0]
    return leaves


def like_tree(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return a tree as the given one, with the next leaves in place of its own."""
    if isinstance(tree, Tensor):
        return next(leaves)
    if _is_sequence(tree):
        parts = [like_tree(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if type(tree) is dict:
        return {name: like_tree(part, leaves) for name, part in tree.items()}
    old, structure = tree_flatten(tree)
    return tree_unflatten([next(leaves) for _ in old], structure)


def _is_sequence(tree: Any) -> bool:
    return type(tree) in (tuple, list) or (isinstance(tree, tuple) and hasattr(tree, "_fields"))
