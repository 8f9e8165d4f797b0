"""Random numbers that depend on a seed and a purpose, and on nothing else.

Two sources serve two needs. `generator` gives an ordinary `torch.Generator` for what is drawn
once, before learning: initial parameters, streams, rollouts. `draw` gives an index for update k
of a run by hashing (key, k, position): it has no state, so that a resumed run, another device or
another population size draws the same numbers, and it can stand inside a compiled program.
"""

import zlib

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

# Words of 32 bits in tensors of 64 and odd multipliers below 2^31, so that no product reaches 2^63:
# where a signed integer overflows, a compiled program may do anything, and has been seen to.
_LOW = 2**32 - 1
_FIRST_MULTIPLIER = 0x21F0AAAD
_SECOND_MULTIPLIER = 0x735A2D97
_GOLDEN_RATIO = 0x61C88647


def _derived(seed: int, path: tuple[int | str, ...]) -> int:
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def generator(seed: int, *path: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose of one seed, e.g. `generator(0, "stream", 7)`."""
    return torch.Generator().manual_seed(_derived(seed, path))


def keys(seed: int, streams: int, *path: int | str) -> Int[Tensor, " stream"]:
    """Return one 63-bit key a stream for `draw`; key i depends on (seed, path, i) only."""
    return torch.tensor([_derived(seed, (*path, index)) for index in range(streams)])


def _mix(word: Tensor) -> Tensor:
    word = (word ^ (word >> 16)) * _FIRST_MULTIPLIER & _LOW
    word = (word ^ (word >> 15)) * _SECOND_MULTIPLIER & _LOW
    return word ^ (word >> 15)


def draw(
    key: Int[Tensor, " stream"], update: Int[Tensor, ""], batch: int, size: Int[Tensor, ""]
) -> Int[Tensor, "stream batch"]:
    """Draw `batch` indices in [0, size) for one update of every stream, with size below 2^31.

    An index differs in probability from the others by less than size / 2^32 of it. Source: a
    two-round multiply and xor-shift hash (Wellons's "hash prospector"), used as a counter-based
    generator.
    """
    place = (key & _LOW) + (update & _LOW) * _GOLDEN_RATIO & _LOW
    stream = _mix(_mix(place) ^ (key >> 32) ^ (update >> 32))
    position = torch.arange(batch, device=key.device) * _GOLDEN_RATIO
    word = _mix(stream[:, None] + position & _LOW)
    return (word * size) >> 32
