"""Seconds of a call, and what it asks of the driver."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.machine import synchronise

# The driver's calls that start kernels, copy and wait, by the beginning of their names.
_CALLS = {
    "starts": ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"),
    "copies": ("cudaMemcpy",),
    "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize"),
}


class Setting(NamedTuple):
    """Where and how long is measured.

    device: that computes
    small:  whether sizes and windows are those of a test
    """

    device: torch.device
    small: bool

    @property
    def on_gpu(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.type == "cuda"


def best_seconds(function: Callable[[], Any], setting: Setting, window: float = 0.3) -> float:
    """Return the seconds of one call: the best of some windows, after two calls."""
    times = []
    windows, window = (1, 0.0) if setting.small else (3, window)
    repeats = [1, 1]
    while len(times) < 2 + windows:
        count = repeats.pop() if repeats else max(1, int(window / max(times[1], 1e-7)))
        synchronise(setting.device)
        begun = time.perf_counter()
        for _ in range(count):
            function()
        synchronise(setting.device)
        times.append((time.perf_counter() - begun) / count)
    return min(times[2:])


def driver_calls(function: Callable[[], Any], setting: Setting, calls: int = 3) -> dict[str, float]:
    """Return how often one call starts kernels, copies and waits; {} on the CPU."""
    if not setting.on_gpu:
        return {}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(calls):
            function()
    events = found.key_averages()
    return {
        kind: sum(event.count for event in events if event.key.startswith(words)) / calls
        for kind, words in _CALLS.items()
    }
