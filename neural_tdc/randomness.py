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

# Odd 64-bit multipliers of the splitmix64 finaliser (Steele, Lea & Flood 2014), as signed integers.
_FIRST_MULTIPLIER = -0x40A7B892E31B1A47
_SECOND_MULTIPLIER = -0x6B2FB644ECCEEE15
_GOLDEN_RATIO = -0x61C8864680B583EB


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


def _shift_right(word: Tensor, bits: int) -> Tensor:
    # torch has no unsigned 64-bit shift: clear the sign bits that the arithmetic shift copies in.
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift_right(word, 30)) * _FIRST_MULTIPLIER
    word = (word ^ _shift_right(word, 27)) * _SECOND_MULTIPLIER
    return word ^ _shift_right(word, 31)


def draw(
    key: Int[Tensor, " stream"], update: Int[Tensor, ""], batch: int, size: Int[Tensor, ""]
) -> Int[Tensor, "stream batch"]:
    """Draw `batch` indices in [0, size) for one update of every stream.

    The bias of the remainder is below size / 2^63. Source: splitmix64 as a counter-based hash.
    """
    position = torch.arange(batch, device=key.device) * _GOLDEN_RATIO
    word = _mix(_mix(key + update * _GOLDEN_RATIO)[:, None] + position)
    return _shift_right(word, 1) % size
