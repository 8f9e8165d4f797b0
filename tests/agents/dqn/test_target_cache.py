"""Target values that are computed once, against a target that is asked every time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agents.dqn.target_cache import TargetCache

STATE, ACTION = 3, 5
CPU = torch.device("cpu")


class Asked(nn.Module):
    """A linear target that counts what it is asked for."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(STATE, ACTION, dtype=torch.float64, generator=generator)
        self.rows = 0

    def forward(self, observation):
        self.rows += len(observation)
        return observation @ self.weight


def observation(number):
    """Return the observation of a frame: another one for every number."""
    numbers = torch.from_numpy(number).double()
    return torch.stack([numbers, numbers**0.5, 1 / (1 + numbers)], 1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 12), batch=st.integers(1, 9))
def test_values_are_the_targets_and_each_is_asked_for_once(seed, rows, batch):
    rng = np.random.default_rng(seed)
    target_cache_rows = TargetCache(rows, ACTION, CPU, torch.float64)
    target, known = Asked(seed), set()
    latest = rows - 1
    for turn in range(25):
        if rng.random() < 0.15:
            target_cache_rows.forget()
            target, known = Asked(seed + turn + 1), set()
        # The replay goes on: what it writes over is never drawn again.
        latest += int(rng.integers(3))
        number = rng.integers(latest - rows + 1, latest + 1, size=batch)
        before = target.rows
        found = target_cache_rows.of(number, observation(number), target)
        assert target.rows - before == len(set(number.tolist()) - known)
        known |= set(number.tolist())
        torch.testing.assert_close(found, observation(number) @ target.weight, rtol=1e-13, atol=0)


def test_what_is_known_is_saved_and_loaded():
    target_cache_rows, target = TargetCache(7, ACTION, CPU, torch.float64), Asked(0)
    number = np.array([12, 9, 12, 11])
    values = target_cache_rows.of(number, observation(number), target)
    other, stranger = TargetCache(7, ACTION, CPU, torch.float64), Asked(1)
    # What it knew itself is gone.
    other.of(np.array([10]), observation(np.array([10])), stranger)
    other.load(target_cache_rows.state())
    stranger.rows = 0
    assert torch.equal(other.of(number, observation(number), stranger), values)
    assert stranger.rows == 0
    other.of(np.array([10]), observation(np.array([10])), stranger)
    assert stranger.rows == 1


def test_no_gradient_comes_through():
    weight = nn.Linear(STATE, ACTION).double()
    target_cache_rows = TargetCache(4, ACTION, CPU, torch.float64)
    number = np.array([0, 3])
    assert not target_cache_rows.of(number, observation(number), weight).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_kept_in_the_networks_precision(dtype):
    target_cache_rows = TargetCache(4, ACTION, CPU, dtype)
    number = np.array([1, 2])
    assert target_cache_rows.of(number, observation(number), Asked(0)).dtype == dtype
