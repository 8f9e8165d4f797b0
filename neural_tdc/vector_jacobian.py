"""Vector-Jacobian products without the import of torch's compiler.

`torch.func.vjp` imports the compiler in its first product, and `torch.autograd.grad` the symbolic
shapes of it: more than a second, in programs that compile nothing too. Here the same functions of
torch differentiate, and the same bits come out. They are private to torch: where they are not
found, `torch.func.vjp` takes their place.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

PullBack = Callable[[Any], Any]

try:
    from torch._functorch.eager_transforms import (
        _create_differentiable,
        _undo_create_differentiable,
        _wrap_all_tensors,
        grad_increment_nesting,
    )
    from torch.autograd.graph import _engine_run_backward

    _FOUND = True
except ImportError:
    _FOUND = False


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, PullBack]:
    """Return the function's value and its vector-Jacobian product, as `torch.func.vjp` does.

    primals: trees of tensors that the function takes and is differentiated by
    function: to a tree of tensors

    The product takes a tree like the value and returns a tuple of trees, one for each primal, with
    zeros where the value does not depend on it. It raises ValueError for another tree or other
    shapes than the value's.
    """
    if not _FOUND or torch.is_inference_mode_enabled():
        value, product, *_ = torch.func.vjp(function, *primals)
        return value, product
    with grad_increment_nesting() as level, torch.enable_grad():
        wrapped = _create_differentiable(_wrap_all_tensors(primals, level), level)
        inside = function(*wrapped)
        outputs, output_structure = tree_flatten(inside)
        inputs, input_structure = tree_flatten(wrapped)
        value = _undo_create_differentiable(inside, level)

    def pull_back(cotangents: Any) -> Any:
        given, structure = tree_flatten(cotangents)
        if structure != output_structure:
            raise ValueError(f"cotangents of {structure} for values of {output_structure}")
        found = _gradients(outputs, inputs, given)
        return tree_unflatten(found, input_structure)

    return value, pull_back


def _gradients(outputs: list[Tensor], inputs: list[Tensor], given: list[Tensor]) -> list[Tensor]:
    pairs = [(output, each) for output, each in zip(outputs, given) if output.requires_grad]
    if not pairs:
        return [torch.zeros_like(each) for each in inputs]
    if any(output.shape != each.shape for output, each in pairs):
        raise ValueError("cotangents have other shapes than the values")
    reached, cotangents = zip(*pairs)
    # For a second product of the same value the graph is kept, as `torch.func.vjp` keeps it.
    kept, differentiable = True, torch.is_grad_enabled()
    found = _engine_run_backward(
        reached, cotangents, kept, differentiable, tuple(inputs), True, accumulate_grad=False
    )
    return [
        torch.zeros_like(each) if gradient is None else gradient
        for each, gradient in zip(inputs, found)
    ]
