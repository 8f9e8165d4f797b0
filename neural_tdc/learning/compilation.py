"""Compiled programs for populations of small networks.

A population's layers are batched products of small matrices. A library's batched product takes
them one by one, at a cost that exceeds their arithmetic; written as multiplications and sums they
fuse with what stands around them, down to the update of the weights that they are the gradient of:
a whole update of a small network becomes one kernel.

The function is traced once and handed to the compiler as a graph, without TorchDynamo: shapes and
settings do not change while a population learns, so that there is nothing to check at a call, and
the check would take longer than an update of a small population.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch._inductor
from torch import Tensor
from torch._inductor import inductor_prims
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_flatten, tree_unflatten

# Multiplications in one of a batch's matrix products up to which it is written out.
SMALL_PRODUCT = 4096


def written_out(left: Tensor, right: Tensor) -> Any:
    """Return the batched product [n, i, k] × [n, k, j], or NotImplemented where it is large."""
    if left.shape[1] * left.shape[2] * right.shape[2] > SMALL_PRODUCT:
        return NotImplemented
    return (left[:, :, :, None] * right[:, None, :, :]).sum(2)


def store_mixed_words(graph: torch.fx.GraphModule) -> None:
    """Let a compiled program store every word that an index is drawn from; changes the graph.

    Each x ^ (x >> n) of `neural_tdc.randomness.draw` reads x twice, and the compiler, which writes
    an operation into all that read it, would go through its first steps hundreds of times.
    """
    for node in list(graph.graph.nodes):
        word = node.target is torch.ops.aten.bitwise_xor.Tensor
        if word and node.meta["val"].dtype == torch.int64:
            with graph.graph.inserting_after(node):
                order = (node, node.meta["val"].stride())
                stored = graph.graph.call_function(inductor_prims.force_stride_order, order)
            node.replace_all_uses_with(stored)
            # Its own use was replaced as well.
            stored.args = order
    graph.recompile()


def compile_repeatable(
    function: Callable[[Any, Any], Any], carried: Any, constant: Any, *, store_shared: bool = False
) -> Callable[[Any, Any, int], Any]:
    """Compile `function(carried, constant) -> carried` and return what repeats it.

    carried, constant: trees of tensors, of the shapes that all calls will have
    store_shared: store a value that several loops read, in place of computing it in each. The
        weights' loops then no longer compute an activation's derivative one number at a time:
        2.4 times faster for a large population of ReLU bodies, slower for a single run.

    The result takes (carried, constant, number of calls) and returns what is carried after them.
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

    table = {torch.ops.aten.bmm.default: written_out}
    settings = {"realize_reads_threshold": 1} if store_shared else {}
    with torch.no_grad(), torch._inductor.config.patch(settings):
        graph = make_fx(flat, decomposition_table=table)(*leaves, *present)
        store_mixed_words(graph)
        # With shapes instead of tensors the compiler finds what it has compiled once before.
        fake = FakeTensorMode(shape_env=ShapeEnv())
        shapes: list[Any] = [
            fake.from_tensor(leaf, static_shapes=True) for leaf in (*leaves, *present)
        ]
        program = torch._inductor.compile(graph, shapes)

    def repeat(carried: Any, constant: Any, calls: int) -> Any:
        tensors = tree_flatten(carried)[0]
        bound = [leaf for leaf in tree_flatten(constant)[0] if isinstance(leaf, Tensor)]
        with torch.no_grad():
            for _ in range(calls):
                tensors = list(program(*tensors, *bound))
        return tree_unflatten(tensors, structure)

    return repeat
