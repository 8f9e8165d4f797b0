"""A compiled program repeated by a loop in C++.

A compiled program is a Python function that makes buffers and calls kernels: functions in C++ that
take addresses. For a small population the Python takes up to ten times as long as the kernels. One
call is watched: which kernels it calls, and which of its inputs, outputs and buffers they get. The
same calls are then made from C++, each with the outputs of the one before as its inputs.

What is known here of torch's compiler is private to torch. A program that is not of the form
expected is not repeated this way, and the loop is compared with calls from Python, bit by bit,
before it is used.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neural_tdc.learning.private_compiler import compiled_library, graph_class
from neural_tdc.learning.small_systems import small_solution, solution_kernel

# Calls that the loop and Python are compared over.
_COMPARED = 3

Program = Callable[..., Sequence[Tensor]]


class Place(NamedTuple):
    """Where an address comes from.

    kind:   "input" or "buffer"
    number: which of them
    offset: bytes from its beginning
    """

    kind: str
    number: int
    offset: int


class _Call(NamedTuple):
    """A kernel call: the function's address and the places of its arguments."""

    function: int
    arguments: list[Place]


class _Watched(NamedTuple):
    """One call of a program: its kernel calls, its buffers and the places of its outputs."""

    calls: list[_Call]
    buffers: list[Tensor]
    outputs: list[Place]


class _Unexpected(Exception):
    """A program is not made of kernels alone."""


class _NothingElse(TorchDispatchMode):
    """Raise where a program does anything but call kernels of its own and solve small systems.

    solve: takes the place of `small_solution`
    """

    def __init__(self, solve: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.solve = solve

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.neural_tdc.small_solution.default:
            return self.solve(*args)
        raise _Unexpected(str(function))


def kernel_loop(
    program: Program, carried: Sequence[Tensor], constant: Sequence[Tensor]
) -> Callable[[Sequence[Tensor], Sequence[Tensor], int], list[Tensor]] | None:
    """Return what repeats a compiled program in C++, or None where this cannot be done.

    program: takes tensors (*carried, *constant) and returns the next carried ones

    The result takes (carried, constant, number of calls), tensors of the same shapes, and returns
    what is carried after them. Raises RuntimeError with what a kernel says, such as an index out of
    bounds. One thread at a time may call it.
    """
    if any(leaf.device.type != "cpu" for leaf in (*carried, *constant)):
        return None
    try:
        watched = _watch(program, [*carried, *constant], len(carried))
        loop = _loop(watched, carried, len(carried))
    except (_Unexpected, ImportError, AttributeError, KeyError, TypeError, OSError):
        return None
    expected = list(carried)
    for _ in range(_COMPARED):
        expected = list(program(*expected, *constant))
    found = loop(carried, constant, _COMPARED)
    return loop if all(map(_same_bits, expected, found)) else None


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # As bytes, since a NaN is not equal to itself.
    flat = (leaf.contiguous().reshape(-1).view(torch.uint8) for leaf in (one, other))
    return one.shape == other.shape and torch.equal(*flat)


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


def _watch(program: Program, inputs: list[Tensor], carried: int) -> _Watched:
    """Call a program once and note all it does; _Unexpected where it is not kernels alone."""
    found: list[tuple[Any, list[Tensor]]] = []
    with _spied(graph_class(), found):
        outer = program(*inputs)
    if len(found) != 1 or len(found[0][1]) != len(inputs):
        raise _Unexpected("several graphs, or other inputs")
    call, given = found[0]
    if any(one.data_ptr() != other.data_ptr() for one, other in zip(given, inputs)):
        raise _Unexpected("inputs are copied")
    names: dict[str, Any] = call.__func__.__globals__
    places = {id(leaf): Place("input", number, 0) for number, leaf in enumerate(given)}
    buffers: list[Tensor] = []
    # A tensor that is let go could give its number to another one.
    kept: list[Tensor] = list(given)
    calls: list[_Call] = []

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
        library = ctypes.CDLL(kernel.__self__.__file__)
        address = ctypes.cast(library.kernel, ctypes.c_void_p).value

        def watch(*arguments: Tensor) -> None:
            assert address is not None
            calls.append(_Call(address, [places[id(argument)] for argument in arguments]))
            kernel(*arguments)

        return watch

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        if not (matrix.is_contiguous() and right.is_contiguous()):
            raise _Unexpected("systems of another layout")
        solution: Tensor = small_solution(matrix, right)
        places[id(solution)] = Place("buffer", len(buffers), 0)
        buffers.append(solution)
        arguments = [places[id(argument)] for argument in (matrix, right, solution)]
        calls.append(_Call(solution_kernel(matrix), arguments))
        return solution

    kernels = {
        name: watched_kernel(value)
        for name, value in names.items()
        if isinstance(value, BuiltinFunctionType) and name.startswith("cpp_fused")
    }
    replaced = {"empty_strided_cpu": allocate, "reinterpret_tensor": reinterpret, **kernels}
    names_before = {name: names[name] for name in replaced}
    names.update(replaced)
    try:
        with _NothingElse(solve):
            inner = call(list(given))
    finally:
        names.update(names_before)
    outputs = [places[id(leaf)] for leaf in inner]
    if len(outer) != carried or len(inner) != carried or not kernels:
        raise _Unexpected("other outputs")
    if any(a.shape != b.shape or a.stride() != b.stride() for a, b in zip(inner, inputs)):
        raise _Unexpected("outputs of another layout")
    return _Watched(calls, buffers, outputs)


def _loop(
    watched: _Watched, carried: Sequence[Tensor], count: int
) -> Callable[[Sequence[Tensor], Sequence[Tensor], int], list[Tensor]]:
    """Return the loop: carried tensors and outputs change places after every call."""
    calls, buffers, outputs = watched
    own = [torch.empty_like(leaf) for leaf in carried]
    unchanged = [place == Place("input", number, 0) for number, place in enumerate(outputs)]
    written = [place for place, same in zip(outputs, unchanged) if not same]
    if len(set(written)) < len(written) or any(place[::2] != ("buffer", 0) for place in written):
        raise _Unexpected("an output is an input, or a part of something")
    replay = _replay([(call.function, len(call.arguments)) for call in calls])
    # Where a call writes what is carried: into its outputs and into the inputs in turns.
    twin = {
        place.number: own[number]
        for number, (place, same) in enumerate(zip(outputs, unchanged))
        if not same
    }
    into = [
        # A buffer may have further axes of size 1.
        mine if same else buffers[place.number].as_strided(mine.shape, mine.stride())
        for mine, place, same in zip(own, outputs, unchanged)
    ]
    arguments = [place for call in calls for place in call.arguments]

    def addresses(constant: Sequence[Tensor], swapped: bool) -> Any:
        inputs = [*(into if swapped else own), *constant]
        tensors = {
            "input": inputs,
            "buffer": [
                twin[number] if swapped and number in twin else buffer
                for number, buffer in enumerate(buffers)
            ],
        }
        found = [tensors[kind][number].data_ptr() + offset for kind, number, offset in arguments]
        return (ctypes.c_void_p * len(found))(*found)

    def repeat(carried: Sequence[Tensor], constant: Sequence[Tensor], times: int) -> list[Tensor]:
        for mine, given in zip(own, carried):
            mine.copy_(given)
        message = ctypes.create_string_buffer(500)
        if replay(times, addresses(constant, False), addresses(constant, True), message, 500):
            raise RuntimeError(message.value.decode(errors="replace"))
        return [leaf.clone() for leaf in (into if times % 2 else own)]

    return repeat


def _replay(calls: list[tuple[int, int]]) -> Any:
    """Compile the loop over kernel calls, (address, number of arguments) each.

    The result takes (times, arguments of even calls, of odd calls, room for a message, its size)
    and returns whether a kernel failed.
    """
    lines, begin = [], 0
    for number, (_, size) in enumerate(calls):
        kinds = ", ".join(["void*"] * size)
        values = ", ".join(f"a[{begin + index}]" for index in range(size))
        lines.append(f"reinterpret_cast<void (*)({kinds})>(functions[{number}])({values});")
        begin += size
    source = _SOURCE.replace("CALLS", "\n            ".join(lines))
    library = compiled_library(source)
    functions = (ctypes.c_void_p * len(calls))(*(address for address, _ in calls))

    def replay(times: int, even: Any, odd: Any, message: Any, size: int) -> int:
        failed: int = library.replay(
            ctypes.c_int64(times), functions, even, odd, message, ctypes.c_int64(size)
        )
        return failed

    return replay


_SOURCE = """
#include <cstdint>
#include <cstring>
#include <exception>
extern "C" int replay(int64_t times, void** functions, void** even, void** odd,
                      char* message, int64_t size) {
    try {
        for (int64_t time = 0; time < times; ++time) {
            void** a = time % 2 ? odd : even;
            CALLS
        }
    } catch (const std::exception& error) {
        std::strncpy(message, error.what(), size - 1);
        return 1;
    }
    return 0;
}
"""
