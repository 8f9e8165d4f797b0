"""A compiled program repeated by a loop in C++, for one block of a population after another.

For a small population the Python of a compiled program takes up to ten times as long as its
kernels. The kernel calls of one call, which `kernel_calls` finds, are made from C++, each with the
outputs of the one before as its inputs. A program that is not kernels alone is not repeated this
way, and the loop is compared with calls from Python, bit by bit, before it is used.

Blocks are equal parts of the leading axis of what is carried. Each is copied into the buffers of a
thread, which repeats the program, and back; several threads take one block after another.
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_tdc.compiled.kernel_calls import (
    Layout,
    Place,
    Program,
    UnexpectedProgram,
    Watched,
    watched_call,
)
from neural_tdc.compiled.loop_source import loop_source
from neural_tdc.compiled.private_compiler import compiled_library
from neural_tdc.compiled.program_store import StoredProgram, store_program

# Calls that the loop and Python are compared over.
_COMPARED = 3
# Room for what a kernel says that fails.
_MESSAGE = 500
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

Loop = Callable[[Sequence[Tensor], Sequence[Sequence[Tensor]], int, int], list[Tensor]]


def kernel_loop(
    program: Program,
    carried: Sequence[Tensor],
    constant: Sequence[Tensor],
    key: str | None = None,
) -> Loop | None:
    """Return what repeats a compiled program in C++, or None where this cannot be done.

    program: takes tensors (*carried, *constant) of one block and returns the next carried ones
    key:     to store the program by, see `neural_tdc.compiled.program_store`

    The result takes (carried, the constant tensors of every block, number of calls, threads) and
    returns what is carried after them. `carried` has the blocks one after another, as parts of the
    leading axis; a tensor of the shape of one block is that of all blocks. It raises RuntimeError
    with what a kernel says, such as an index out of bounds.
    """
    if any(leaf.device.type != "cpu" for leaf in (*carried, *constant)):
        return None
    try:
        watched = watched_call(program, [*carried, *constant], len(carried))
        found = StoredProgram(watched, compiled_library(loop_source(watched.calls)))
        loop = loop_of(found, carried)
    except _NO_LOOP:
        return None
    expected = list(carried)
    for _ in range(_COMPARED):
        expected = list(program(*expected, *constant))
    if not all(map(_same_bits, expected, loop(carried, [constant], _COMPARED, 1))):
        return None
    if key is not None:
        store_program(key, found)
    return loop


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # As bytes, since a NaN is not equal to itself.
    flat = (leaf.contiguous().reshape(-1).view(torch.uint8) for leaf in (one, other))
    return one.shape == other.shape and torch.equal(*flat)


class _Buffers(NamedTuple):
    """What one thread works in.

    tensors:   kept as long as the addresses are used
    even, odd: addresses of the carried tensors and of the buffers, for even and odd calls
    """

    tensors: list[Tensor]
    even: Any
    odd: Any


def _buffers(watched: Watched, carried: Sequence[Tensor]) -> _Buffers:
    """Make buffers. Carried tensors and outputs change places after every call."""
    buffers = [_empty(layout) for layout in watched.buffers]
    own = [torch.empty_like(leaf) for leaf in carried]
    even, odd = [*own, *buffers], [*own, *buffers]
    for number, place in enumerate(watched.outputs):
        if place != Place("input", number, 0):
            odd[number] = buffers[place.number]
            odd[len(own) + place.number] = own[number]
    return _Buffers(even, *(_pointers(x.data_ptr() for x in each) for each in (even, odd)))


def _empty(layout: Layout) -> Tensor:
    return torch.empty_strided(layout.shape, layout.stride, dtype=layout.dtype)


def _check_outputs(outputs: Sequence[Place]) -> None:
    """Raise UnexpectedProgram where an output is neither a buffer of its own nor what was given."""
    given = [place == Place("input", number, 0) for number, place in enumerate(outputs)]
    written = [place for place, same in zip(outputs, given) if not same]
    if len(set(written)) < len(written) or any(place[::2] != ("buffer", 0) for place in written):
        raise UnexpectedProgram("an output is an input, or a part of something")


def _stride_of_runs(leaf: Tensor) -> tuple[int, ...]:
    """Return the strides of a tensor of several blocks, of which this is one, one after another."""
    if leaf.dim() == 0:
        return ()
    each = leaf.numel() // max(len(leaf), 1)
    if len(leaf) > 1 and leaf.stride(0) != each:
        raise UnexpectedProgram("a run's numbers do not lie together")
    return (each, *leaf.stride()[1:])


def loop_of(program: StoredProgram, carried: Sequence[Tensor]) -> Loop:
    """Return what repeats a program, see `kernel_loop`; carried: of one block."""
    watched = program.watched
    _check_outputs(watched.outputs)
    like = [torch.empty_like(leaf) for leaf in carried]
    strides = [_stride_of_runs(leaf) for leaf in like]
    replay = _replay(program, like)
    # A thread takes buffers that no other one uses, or makes some.
    free: list[_Buffers] = []

    def taken() -> _Buffers:
        try:
            return free.pop()
        except IndexError:
            return _buffers(watched, like)

    def repeat(
        carried: Sequence[Tensor], constants: Sequence[Sequence[Tensor]], times: int, threads: int
    ) -> list[Tensor]:
        before = [
            leaf if leaf.stride() == stride else _lying(leaf, stride).copy_(leaf)
            for leaf, stride in zip(carried, strides, strict=True)
        ]
        after = list(map(_lying, before, strides))
        mine = [taken() for _ in range(min(threads, len(constants)))]
        try:
            replay(times, mine, constants, before, after)
        finally:
            free.extend(mine)
        return after

    return repeat


def _lying(leaf: Tensor, stride: tuple[int, ...]) -> Tensor:
    return torch.empty_strided(leaf.shape, stride, dtype=leaf.dtype)


def _replay(program: StoredProgram, like: Sequence[Tensor]) -> Callable[..., None]:
    """Return the loop over kernel calls; `like` is what one block carries.

    The result takes (times, buffers of each thread, constant tensors of each block, what is carried
    by all blocks before, and room for it after) and raises RuntimeError where a kernel fails.
    """
    watched, library = program
    calls = watched.calls
    functions = _pointers(call.kernel.address for call in calls)
    places = [_where(place, watched, len(like)) for call in calls for place in call.arguments]
    numbers = _integers(number for place in places for number in place)
    sizes = _integers(leaf.nbytes for leaf in like)

    def replay(
        times: int,
        buffers: Sequence[_Buffers],
        constants: Sequence[Sequence[Tensor]],
        before: Sequence[Tensor],
        after: Sequence[Tensor],
    ) -> None:
        # What has the shape of one block is shared by all of them.
        steps = (
            leaf.nbytes if given.shape != leaf.shape else 0 for given, leaf in zip(before, like)
        )
        message = ctypes.create_string_buffer(_MESSAGE)
        failed = library.replay(
            *(ctypes.c_int64(x) for x in (times, len(constants), len(like), len(buffers))),
            *(functions, numbers),
            _pointers(ctypes.addressof(x) for each in buffers for x in (each.even, each.odd)),
            _pointers(leaf.data_ptr() for block in constants for leaf in block),
            ctypes.c_int64(len(constants[0])),
            *(_pointers(leaf.data_ptr() for leaf in leaves) for leaves in (before, after)),
            *(sizes, _integers(steps), message, ctypes.c_int64(_MESSAGE)),
        )
        if failed:
            raise RuntimeError(message.value.decode(errors="replace"))

    return replay


def _where(place: Place, watched: Watched, carried: int) -> tuple[int, int, int]:
    """Return (group, number, offset) of an address, see `loop_source`."""
    kind, number, offset = place
    if kind == "constant":
        return 2, 0, watched.constants[number].data_ptr() + offset
    if kind == "buffer":
        return 0, carried + number, offset
    return (0, number, offset) if number < carried else (1, number - carried, offset)


def _pointers(addresses: Iterable[int]) -> Any:
    found = list(addresses)
    return (ctypes.c_void_p * len(found))(*found)


def _integers(numbers: Iterable[int]) -> Any:
    found = list(numbers)
    return (ctypes.c_int64 * len(found))(*found)
