"""A compiled program repeated by a loop in C++.

For a small population the Python of a compiled program takes up to ten times as long as its
kernels. The kernel calls of one call, which `kernel_calls` finds, are made from C++, each with the
outputs of the one before as its inputs. A program that is not kernels alone is not repeated this
way, and the loop is compared with calls from Python, bit by bit, before it is used.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from neural_tdc.compiled.kernel_calls import (
    Place,
    Program,
    UnexpectedProgram,
    Watched,
    watched_call,
)
from neural_tdc.compiled.private_compiler import compiled_library

# Calls that the loop and Python are compared over.
_COMPARED = 3

# Blocks of a population whose addresses a loop keeps.
_KNOWN = 256
# What is raised where a program, or torch's compiler, is not of the form expected.
_NO_LOOP = (
    UnexpectedProgram,
    ImportError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    OSError,
)

Loop = Callable[[Sequence[Tensor], Sequence[Tensor], int], list[Tensor]]


def kernel_loop(
    program: Program, carried: Sequence[Tensor], constant: Sequence[Tensor]
) -> Loop | None:
    """Return what repeats a compiled program in C++, or None where this cannot be done.

    program: takes tensors (*carried, *constant) and returns the next carried ones

    The result takes (carried, constant, number of calls), tensors of the same shapes, and returns
    what is carried after them. Raises RuntimeError with what a kernel says, such as an index out of
    bounds. Several threads may call it at once.
    """
    if any(leaf.device.type != "cpu" for leaf in (*carried, *constant)):
        return None
    try:
        watched = watched_call(program, [*carried, *constant], len(carried))
        loop = _loop(watched, carried)
    except _NO_LOOP:
        return None
    expected = list(carried)
    for _ in range(_COMPARED):
        expected = list(program(*expected, *constant))
    found = loop(carried, constant, _COMPARED)
    if not all(map(_same_bits, expected, found)):
        return None
    # A loop has buffers of its own: a thread takes one that no other uses, or makes one.
    free = [loop]

    def repeat(carried: Sequence[Tensor], constant: Sequence[Tensor], times: int) -> list[Tensor]:
        try:
            mine = free.pop()
        except IndexError:
            mine = _loop(watched, carried)
        try:
            return mine(carried, constant, times)
        finally:
            free.append(mine)

    return repeat


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # As bytes, since a NaN is not equal to itself.
    flat = (leaf.contiguous().reshape(-1).view(torch.uint8) for leaf in (one, other))
    return one.shape == other.shape and torch.equal(*flat)


def _loop(watched: Watched, carried: Sequence[Tensor]) -> Loop:
    """Return a loop with buffers of its own; one thread at a time may call it.

    Carried tensors and outputs change places after every call.
    """
    calls, seen, unchanging, outputs = watched
    buffers = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype) for x in seen]
    own = [torch.empty_like(leaf) for leaf in carried]
    unchanged = [place == Place("input", number, 0) for number, place in enumerate(outputs)]
    written = [place for place, same in zip(outputs, unchanged) if not same]
    if len(set(written)) < len(written) or any(place[::2] != ("buffer", 0) for place in written):
        raise UnexpectedProgram("an output is an input, or a part of something")
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
    # Addresses of all arguments by those of the constant tensors, for even and odd calls.
    known: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def addresses(constant: Sequence[Tensor], swapped: bool) -> Any:
        inputs = [*(into if swapped else own), *constant]
        tensors = {
            "input": inputs,
            "constant": unchanging,
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
        places = tuple(leaf.data_ptr() for leaf in constant)
        if places not in known:
            if len(known) >= _KNOWN:
                known.clear()
            known[places] = addresses(constant, False), addresses(constant, True)
        if replay(times, *known[places], message, 500):
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
