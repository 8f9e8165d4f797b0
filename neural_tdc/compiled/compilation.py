"""Compiled programs for populations of small networks.

A population's layers are batched products of small matrices. A library's batched product takes
them one by one, at a cost that exceeds their arithmetic; written as multiplications and sums they
fuse with what stands around them, down to the update of the weights that they are the gradient of:
a whole update of a small network becomes one kernel.

The function is traced once and handed to the compiler as a graph, without TorchDynamo: shapes and
settings do not change while a population learns, so that there is nothing to check at a call, and
the check would take longer than an update of a small population.

What is private to torch stands in `private_compiler`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from neural_tdc.compiled.fingerprint import fingerprint, stored_in_order
from neural_tdc.compiled.flat_functions import Product, flat_function
from neural_tdc.compiled.kernel_calls import Program
from neural_tdc.compiled.kernel_loop import Loop, kernel_loop, loop_of
from neural_tdc.compiled.private_compiler import Compiler, compiler, compiler_settings
from neural_tdc.compiled.program_key import program_key
from neural_tdc.compiled.program_store import find_program, store_program
from neural_tdc.compiled.quick_trees import leaves_of, like_tree
from neural_tdc.compiled.small_products import can_be_multiplied, small_product
from neural_tdc.compiled.wide_layouts import of_turned, to_be_turned, turned

# Multiplications in one of a batch's matrix products up to which it is written out, and in all of
# them: a single run's products cost less than the call of a library.
SMALL_PRODUCT = 4096
FEW_PRODUCTS = 2**16
# The same for one thread, whose own kernel takes larger ones: 0.6 of the time at a batch of 4.
WRITTEN_OUT = 1024
# What a compiled program calls a library for, which uses all threads of torch.
_OF_LIBRARIES = {
    torch.ops.aten.bmm.default,
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.convolution.default,
    torch.ops.aten.convolution_backward.default,
    torch.ops.aten._linalg_solve_ex.default,
}
# Bytes that are carried up to which calls are repeated in C++; a longer call hides Python's time.
SMALL_STATE = 2**26


RepeatedProgram = Callable[[Any, Any, int], Any]


class _Update(NamedTuple):
    """What is compiled.

    function:          from `force_stride` to `function(carried, constant) -> carried`
    carried, constant: trees of tensors, of the shapes that all calls will have
    product:           see `flat_functions.flat_function`
    settings:          of the compiler
    """

    function: Callable[[Any], Callable[[Any, Any], Any]]
    carried: Any
    constant: Any
    product: Product
    settings: dict[str, Any]


def multiplied_here(left: Tensor, right: Tensor) -> Any:
    """Return the batched product of matrices by one thread, or NotImplemented where it is large."""
    each = left.shape[1] * left.shape[2] * right.shape[2]
    if each > WRITTEN_OUT and can_be_multiplied(left, right):
        return small_product(left, right)
    return written_out(left, right)


def written_out(left: Tensor, right: Tensor) -> Any:
    """Return the batched product [n, i, k] × [n, k, j], or NotImplemented where it is large."""
    each = left.shape[1] * left.shape[2] * right.shape[2]
    if each > SMALL_PRODUCT and len(left) * each > FEW_PRODUCTS:
        return NotImplemented
    return (left[:, :, :, None] * right[:, None, :, :]).sum(2)


def store_mixed_words(graph: torch.fx.GraphModule, force_stride: Any) -> None:
    """Let a compiled program store every word that an index is drawn from; changes the graph.

    force_stride: see `Compiler`

    Each x ^ (x >> n) of `neural_tdc.randomness.draw` reads x twice, and the compiler, which writes
    an operation into all that read it, would go through its first steps hundreds of times.
    """
    for node in list(graph.graph.nodes):
        word = node.target is torch.ops.aten.bitwise_xor.Tensor
        if word and node.meta["val"].dtype == torch.int64:
            with graph.graph.inserting_after(node):
                order = (node, node.meta["val"].stride())
                stored = graph.graph.call_function(force_stride, order)
            node.replace_all_uses_with(stored)
            # Its own use was replaced as well.
            stored.args = order
    graph.recompile()


def traced(
    function: Callable[[Any, Any], Any],
    carried: Any,
    constant: Any,
    inductor: Compiler,
    product: Callable[[Tensor, Tensor], Any] = written_out,
) -> torch.fx.GraphModule:
    """Return `function(carried, constant) -> carried` as a graph from tensors to tensors.

    product: takes the place of batched products, where it is implemented

    Its inputs are the tensors of `carried` and of `constant`, its outputs those carried on.
    """
    flat = flat_function(function, carried, constant, inductor.force_stride, product)
    graph = inductor.trace(flat.call, decomposition_table=flat.replacements)(*flat.inputs)
    store_mixed_words(graph, inductor.force_stride)
    return graph


def compile_repeatable(
    function: Callable[[Any, Any], Any], carried: Any, constant: Any, *, store_shared: bool = False
) -> RepeatedProgram:
    """Compile `function(carried, constant) -> carried` and return what repeats it.

    carried, constant: trees of tensors, of the shapes that all calls will have
    store_shared: store a value that several loops read, in place of computing it in each. The
        weights' loops then no longer compute an activation's derivative one number at a time:
        2.4 times faster for a large population of ReLU bodies.

    The result takes (carried, constant, number of calls) and returns what is carried after them.
    Raises RuntimeError where this torch's compiler is not the one expected.
    """
    single = torch.get_num_threads() == 1 and _on_cpu(carried, constant)
    product = multiplied_here if single else written_out
    update = _Update(lambda _: function, carried, constant, product, _settings(store_shared))
    program, loop = _found_or_compiled(update)

    def repeat(carried: Any, constant: Any, calls: int) -> Any:
        tensors, bound = leaves_of(carried), tensors_of(constant)
        with torch.no_grad():
            if loop is not None and (calls > 1 or (calls and program is None)):
                return like_tree(carried, iter(loop(tensors, [bound], calls, 1)))
            for _ in range(calls):
                assert program is not None
                tensors = list(program(*tensors, *bound))
        return like_tree(carried, iter(tensors))

    return repeat


def compile_for_threads(
    function: Callable[[Any, Any], Any], carried: Any, constant: Any
) -> Loop | None:
    """Compile what `compile_repeatable` does, as a program of which each call uses one thread.

    carried, constant: of one block of a population, see `neural_tdc.compiled.kernel_loop`

    The result takes and returns tensors in place of trees. Returns None where this cannot be: where
    a library's operations are called, which use all threads themselves.
    """
    if not _small(carried):
        return None
    leaves, structure = tree_flatten(carried)
    flags = [to_be_turned(leaf) for leaf in leaves]
    across = tree_unflatten([leaf.contiguous() for leaf in turned(leaves, flags)], structure)
    settings = {**_settings(store_shared=True), "cpp.threads": 1}
    update = _Update(
        lambda force_stride: of_turned(function, flags, force_stride),
        *(across, constant, multiplied_here, settings),
    )
    loop = _found_or_compiled(update, loop_alone=True)[1]
    if loop is None:
        return None
    return lambda carried, constants, times, threads: turned(
        loop(turned(carried, flags), constants, times, threads), flags
    )


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors among the leaves of a tree."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor)]


def _small(carried: Any) -> bool:
    return sum(leaf.nbytes for leaf in tensors_of(carried)) <= SMALL_STATE


def _on_cpu(*trees: Any) -> bool:
    return all(leaf.device.type == "cpu" for leaf in tensors_of(trees))


def _settings(store_shared: bool) -> dict[str, Any]:
    settings = compiler_settings()
    if store_shared:
        settings["realize_reads_threshold"] = 1
    return settings


def _key(update: _Update) -> str | None:
    """Return the key of an update's program, None where it is not stored."""
    if not (_small(update.carried) and _on_cpu(update.carried, update.constant)):
        return None
    function, carried, constant, product, settings = update
    told = fingerprint(
        flat_function(function(stored_in_order), carried, constant, stored_in_order, product)
    )
    return None if told is None else program_key(told, settings)


def _found_or_compiled(
    update: _Update, loop_alone: bool = False
) -> tuple[Program | None, Loop | None]:
    """Return an update's program, and what repeats it in C++ where it is small and that can be.

    loop_alone: only the second is asked for: a function that calls libraries is not compiled

    Of a program that was stored before there is the second alone.
    """
    leaves, present = tensors_of(update.carried), tensors_of(update.constant)
    key = _key(update)
    known, stored = find_program(key)
    if stored is not None:
        return None, loop_of(stored, leaves)
    if known and loop_alone:
        return None, None
    inductor = compiler()
    function = update.function(inductor.force_stride)
    with torch.no_grad():
        graph = traced(function, update.carried, update.constant, inductor, update.product)
    if loop_alone and any(node.target in _OF_LIBRARIES for node in graph.graph.nodes):
        return None, None
    with torch.no_grad(), inductor.settings(update.settings):
        # With shapes instead of tensors the compiler finds what it has compiled once before.
        fake = inductor.fake_mode()
        shapes: list[Any] = [
            fake.from_tensor(leaf, static_shapes=True) for leaf in (*leaves, *present)
        ]
        program: Program = inductor.compile(graph, shapes)
        loop = kernel_loop(program, leaves, present, key) if _small(update.carried) else None
    if loop is None and loop_alone and key is not None:
        store_program(key, None)
    return program, loop


def compiled_at_first_call(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return `function(carried, constant) -> carried`, compiled once for each set of shapes."""
    programs: dict[Any, Callable[[Any, Any, int], Any]] = {}

    def call(carried: Any, constant: Any) -> Any:
        leaves, structure = tree_flatten((carried, constant))
        # A number is part of the program.
        kinds = [(x.shape, x.dtype, x.device) if isinstance(x, Tensor) else x for x in leaves]
        key = (structure, tuple(kinds))
        if key not in programs:
            programs[key] = compile_repeatable(function, carried, constant)
        return programs[key](carried, constant, 1)

    return call
