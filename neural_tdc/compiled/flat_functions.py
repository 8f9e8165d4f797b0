"""An update as a function from tensors to tensors, with what takes the place of some operations.

Both that trace it take this form: the compiler, and `fingerprint`, which tells a program that was
compiled before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from neural_tdc.compiled.fast_activations import fast_tanh
from neural_tdc.compiled.small_systems import solved_side_by_side

Product = Callable[[Tensor, Tensor], Any]


class FlatFunction(NamedTuple):
    """A function whose inputs are tensors carried and constant ones, and whose outputs the carried.

    call:         the function
    inputs:       tensors of the shapes that all calls have
    replacements: operation → what takes its place, or returns NotImplemented
    """

    call: Callable[..., tuple[Tensor, ...]]
    inputs: list[Tensor]
    replacements: dict[Any, Callable[..., Any]]


def flat_function(
    function: Callable[[Any, Any], Any],
    carried: Any,
    constant: Any,
    force_stride: Callable[[Tensor, Any], Tensor],
    product: Product,
) -> FlatFunction:
    """Return `function(carried, constant) -> carried` in the form that is traced.

    force_stride: has its argument stored, see `private_compiler.Compiler`
    product:      takes the place of batched products, where it is implemented
    """
    leaves, structure = tree_flatten(carried)
    fixed, fixed_structure = tree_flatten(constant)
    present = [leaf for leaf in fixed if isinstance(leaf, Tensor)]

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors[len(leaves) :])
        bound = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in fixed]
        result = function(
            tree_unflatten(list(tensors[: len(leaves)]), structure),
            tree_unflatten(bound, fixed_structure),
        )
        return tuple(tree_flatten(result)[0])

    def stored_tanh(x: Tensor) -> Any:
        value = fast_tanh(x)
        # Else it would be written into all that read it, and computed again in each.
        return value if value is NotImplemented else force_stride(value, value.stride())

    replacements: dict[Any, Callable[..., Any]] = {
        torch.ops.aten.bmm.default: product,
        torch.ops.aten.tanh.default: stored_tanh,
        torch.ops.aten._linalg_solve_ex.default: solved_side_by_side,
    }
    return FlatFunction(flat, [*leaves, *present], replacements)
