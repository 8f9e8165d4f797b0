"""What the machine can do at most, measured in the same call as what it is compared with."""

import glob
import time
from collections.abc import Callable
from pathlib import Path

import torch


def last_level_cache(default: int = 32 * 2**20) -> int:
    """Return the bytes of the largest cache of the first core, as the system reports it."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        text = Path(path).read_text().strip()
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text))
    return max(sizes, default=default)


def synchronise(device: torch.device) -> None:
    """Wait for the device, where it works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the time of one call, as a mean over one window of `repeats` calls."""
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        function()
    synchronise(device)
    return (time.perf_counter() - begun) / repeats


def use_threads(runs: int, all_threads: int) -> None:
    """Let torch use one thread for a single run, as the programs do, and all for a population.

    The kernels of one run are too short for two threads, which wait for each other.
    """
    torch.set_num_threads(1 if runs == 1 else all_threads)


def copy_window(device: torch.device) -> Callable[[], float]:
    """Return a function that measures the bytes read and written a second by a large copy."""
    numbers = 8 * last_level_cache() // 4
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    return lambda: 2 * 4 * numbers / seconds(lambda: target.copy_(source), 1, device)


def matrix_window(device: torch.device, size: int = 1024) -> Callable[[], float]:
    """Return a function that measures the operations a second of a large matrix product."""
    left, right = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    product = torch.empty_like(left)
    return lambda: 2 * size**3 / seconds(lambda: torch.mm(left, right, out=product), 4, device)
