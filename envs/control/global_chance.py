"""Environments that draw from global generators: noticed, and given chance of their own."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor


class GlobalState(NamedTuple):
    """The states of the global generators of numpy, of Python and of torch on the CPU."""

    numpy: Any
    python: Any
    torch: Tensor


def global_state() -> GlobalState:
    """Return the present states of the global generators."""
    return GlobalState(np.random.get_state(), random.getstate(), torch.get_rng_state())  # noqa: NPY002


def set_global_state(state: GlobalState) -> None:
    """Put the global generators into these states."""
    np.random.set_state(state.numpy)  # noqa: NPY002
    random.setstate(state.python)
    torch.set_rng_state(state.torch)


@contextlib.contextmanager
def kept_global_state() -> Iterator[None]:
    """Leave the global generators as they were."""
    outside = global_state()
    try:
        yield
    finally:
        set_global_state(outside)


def seeded_state(seed: int) -> GlobalState:
    """Return states of the three generators that follow from a seed."""
    return GlobalState(
        np.random.RandomState(seed % 2**32).get_state(),
        random.Random(seed).getstate(),
        torch.Generator().manual_seed(seed).get_state(),
    )


def drawn_from(before: GlobalState, after: GlobalState) -> list[str]:
    """Return the names of the generators whose states differ."""
    same = {
        "numpy.random": all(map(np.array_equal, before.numpy, after.numpy)),
        "random": before.python == after.python,
        "torch": torch.equal(before.torch, after.torch),
    }
    return [name for name, equal in same.items() if not equal]


class OwnChance(gymnasium.Wrapper):
    """An environment that draws from global generators, with states of them for itself alone.

    They are set at every reset with a seed, so that an episode is its seed and its actions, and the
    program's own global generators are left as they were.
    """

    def __init__(self, environment: gymnasium.Env) -> None:
        super().__init__(environment)
        self._state = seeded_state(0)

    def reseed(self, seed: int) -> None:
        """Draw what comes from a seed."""
        self._state = seeded_state(seed)

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        with kept_global_state():
            set_global_state(self._state)
            try:
                yield
            finally:
                self._state = global_state()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if seed is not None:
            self.reseed(seed)
        with self._apart():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step with generators of its own; see `gymnasium.Env.step`."""
        with self._apart():
            return self.env.step(action)
