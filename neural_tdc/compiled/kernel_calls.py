"""What a compiled program does: which kernels it calls, and which tensors they get.

A compiled program is a Python function that makes buffers and calls kernels: functions in C++ that
take addresses. One call of it is watched. What is known here of torch's compiler is private to
torch; a program that is not of the form expected raises `UnexpectedProgram`.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neural_tdc.compiled.kernels import Kernel
from neural_tdc.compiled.private_compiler import graph_class
from neural_tdc.compiled.small_products import product_kernel, small_product
from neural_tdc.compiled.small_systems import small_solution, solution_kernel

Program = Callable[..., Sequence[Tensor]]

# Operations of our own, each with the function that gives its kernel. A kernel takes the addresses
# of the arguments and of the result.
OWN_OPERATIONS = {
    torch.ops.neural_tdc.small_solution.default: (small_solution, solution_kernel),
    torch.ops.neural_tdc.small_product.default: (small_product, product_kernel),
}


class Place(NamedTuple):
    """Where an address comes from.

    kind:   "input", "buffer" or "constant"
    number: which of them
    offset: bytes from its beginning
    """

    kind: str
    number: int
    offset: int


class Call(NamedTuple):
    """A kernel call, with the places of its arguments."""

    kernel: Kernel
    arguments: list[Place]


class Layout(NamedTuple):
    """What a tensor is without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Watched(NamedTuple):
    """One call of a program.

    calls:     its kernel calls
    buffers:   layouts of what it makes, the outputs among it
    constants: tensors that belong to it, such as a table that its function reads
    outputs:   the places of its outputs
    """

    calls: list[Call]
    buffers: list[Layout]
    constants: list[Tensor]
    outputs: list[Place]


class UnexpectedProgram(Exception):
    """A program is not made of kernels alone."""


class _NothingElse(TorchDispatchMode):
    """Raise where a program does anything but call kernels and operations of our own.

    own: takes the place of such an operation
    """

    def __init__(self, own: Callable[..., Tensor]) -> None:
        super().__init__()
        self.own = own

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in OWN_OPERATIONS:
            return self.own(function, *args)
        raise UnexpectedProgram(str(function))


@contextmanager
def _spied(graph_class: Any, found: list[tuple[Any, list[Tensor]]]) -> Iterator[None]:
    """Note the compiled graphs that are called meanwhile, with their inputs."""
    original = graph_class.__call__

    def spy(self: Any, inputs: Any) -> Any:
        found.append((self.current_callable, list(inputs)))
        return original(self, inputs)

    graph_class.__call__ = spy
    try:
        yield
    finally:
        graph_class.__call__ = original


def watched_call(program: Program, inputs: list[Tensor], carried: int) -> Watched:
    """Call a program once and note all it does; UnexpectedProgram where it is not kernels alone."""
    found: list[tuple[Any, list[Tensor]]] = []
    with _spied(graph_class(), found):
        outer = program(*inputs)
    if len(found) != 1 or len(found[0][1]) < len(inputs):
        raise UnexpectedProgram("several graphs, or other inputs")
    call, everything = found[0]
    own_first = len(everything) - len(inputs)
    constants, given = everything[:own_first], everything[own_first:]
    if any(one.data_ptr() != other.data_ptr() for one, other in zip(given, inputs)):
        raise UnexpectedProgram("inputs are copied")
    names: dict[str, Any] = call.__func__.__globals__
    places = {id(leaf): Place("input", number, 0) for number, leaf in enumerate(given)}
    places |= {id(leaf): Place("constant", number, 0) for number, leaf in enumerate(constants)}
    buffers: list[Tensor] = []
    # A tensor that is let go could give its number to another one.
    kept: list[Tensor] = list(everything)
    calls: list[Call] = []

    def allocate(*shape: Any) -> Tensor:
        buffer: Tensor = names_before["empty_strided_cpu"](*shape)
        places[id(buffer)] = Place("buffer", len(buffers), 0)
        buffers.append(buffer)
        return buffer

    def reinterpret(base: Tensor, size: Any, stride: Any, offset: int) -> Tensor:
        view: Tensor = names_before["reinterpret_tensor"](base, size, stride, offset)
        kind, number, start = places[id(base)]
        places[id(view)] = Place(kind, number, start + view.data_ptr() - base.data_ptr())
        kept.append(view)
        return view

    def watched_kernel(kernel: Any) -> Callable[..., None]:
        found = Kernel(ctypes.CDLL(kernel.__self__.__file__), "kernel")

        def watch(*arguments: Tensor) -> None:
            calls.append(Call(found, [places[id(argument)] for argument in arguments]))
            kernel(*arguments)

        return watch

    def own(operation: Any, *arguments: Tensor) -> Tensor:
        function, kernel = OWN_OPERATIONS[operation]
        result: Tensor = function(*arguments)
        places[id(result)] = Place("buffer", len(buffers), 0)
        buffers.append(result)
        used = [places[id(argument)] for argument in (*arguments, result)]
        calls.append(Call(kernel(*arguments), used))
        return result

    kernels = {
        name: watched_kernel(value)
        for name, value in names.items()
        if isinstance(value, BuiltinFunctionType) and name.startswith("cpp_fused")
    }
    replaced = {"empty_strided_cpu": allocate, "reinterpret_tensor": reinterpret, **kernels}
    names_before = {name: names[name] for name in replaced}
    names.update(replaced)
    try:
        with _NothingElse(own):
            inner = call(list(everything))
    finally:
        names.update(names_before)
    outputs = [places[id(leaf)] for leaf in inner]
    if len(outer) != carried or len(inner) != carried or not kernels:
        raise UnexpectedProgram("other outputs")
    if any(a.shape != b.shape or a.stride() != b.stride() for a, b in zip(inner, inputs)):
        raise UnexpectedProgram("outputs of another layout")
    layouts = [Layout(tuple(x.shape), x.stride(), x.dtype) for x in buffers]
    return Watched(calls, layouts, constants, outputs)
