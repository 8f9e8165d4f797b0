"""What a function computes, as a text of 64 digits, without the compiler.

The function is called once while each operation of torch is noted: its name, the numbers among its
arguments, and which tensors it takes and makes. The compiler makes its program from the same
operations, so two functions with the same fingerprint have the same program, whatever rules,
optimisers, schedules or modules of a user they are made of. The call takes some milliseconds.
"""

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakIdKeyDictionary

from neural_tdc.compiled.flat_functions import FlatFunction
from neural_tdc.compiled.kernel_calls import OWN_OPERATIONS
from neural_tdc.one_thread import one_thread

# Bytes of a tensor that the function reads but is not given, up to which its numbers are noted.
LARGEST_CONSTANT = 2**22
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout)


class _CannotTell(Exception):
    """An operation has something that cannot be noted."""


def _shape_alone(left: Tensor, right: Tensor) -> Tensor:
    """Return zeros in place of products of matrices or solutions: nobody looks at the numbers.

    The kernels of our own operations would have to be compiled.
    """
    return left.new_zeros(len(left), left.shape[1], right.shape[2])


def stored_in_order(value: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return the tensor in another order in memory: `force_stride` without the compiler."""
    return torch.empty_strided(value.shape, stride, dtype=value.dtype).copy_(value)


def fingerprint(flat: FlatFunction) -> str | None:
    """Return the fingerprint of a function on the CPU, or None where it cannot be told.

    flat: made with `stored_in_order` in place of the compiler's operation

    It cannot be told where the function asks for a number of a tensor, draws random numbers, or
    has arguments that are neither tensors nor plain values; nor where it fails: who compiles it
    then says why.
    """
    try:
        noted = _Noted(flat)
        with one_thread(), torch.no_grad(), noted:
            outputs = flat.call(*flat.inputs)
        noted.note("outputs", [noted.described(output) for output in outputs])
    except Exception:
        return None
    return noted.digest.hexdigest()


class _Noted(TorchDispatchMode):
    """Notes each operation in a digest."""

    def __init__(self, flat: FlatFunction) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.replacements = flat.replacements
        self.numbers = WeakIdKeyDictionary()
        self.count = 0
        # The same tensor, given twice, is one input.
        self.note("inputs", [self.made(each) for each in flat.inputs])

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler at the first operation.
        return False

    def note(self, *words: Any) -> None:
        """Add words to the digest."""
        self.digest.update(repr(words).encode() + b"\n")

    def made(self, leaf: Any) -> Any:
        """Describe what an operation returns, with the next number where it is new."""
        plain = type(leaf) in (Tensor, torch.nn.Parameter) and leaf.layout is torch.strided
        if not plain or leaf.device.type != "cpu":
            raise _CannotTell
        if leaf not in self.numbers:
            # A tensor that is gone does not free its number.
            self.numbers[leaf], self.count = self.count, self.count + 1
        return self.numbers[leaf], tuple(leaf.shape), leaf.stride(), str(leaf.dtype)

    def described(self, value: Any) -> Any:
        """Describe an argument in plain values; raises _CannotTell."""
        if isinstance(value, Tensor):
            if value not in self.numbers:
                self.note("constant", self.made(value), _content(value))
            return "tensor", self.numbers[value]
        if isinstance(value, (list, tuple)):
            return [self.described(each) for each in value]
        if isinstance(value, dict):
            return [(name, self.described(value[name])) for name in sorted(value)]
        if isinstance(value, (*_PLAIN, torch.memory_format)):
            return repr(value)
        raise _CannotTell

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.replacements:
            with self:
                result = self.replacements[function](*args, **kwargs)
            if result is not NotImplemented:
                return result
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise _CannotTell
        taken = self.described(args), self.described(kwargs)
        call = _shape_alone if function in OWN_OPERATIONS else function
        result = call(*args, **kwargs)
        self.note(str(function), taken, [self.made(leaf) for leaf in tree_flatten(result)[0]])
        return result


def _content(leaf: Tensor) -> str:
    if leaf.nbytes > LARGEST_CONSTANT:
        raise _CannotTell
    flat = leaf.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()
