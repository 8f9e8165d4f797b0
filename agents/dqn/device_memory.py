"""How much memory a device has to give, and what does not fit in it."""

import os
from pathlib import Path

import torch

GIGABYTE = 1e9
# Files in which Linux says how much a group of processes may use and does use.
_GROUP = Path("/sys/fs/cgroup")


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _host_bytes() -> int | None:
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    if limit is not None and used is not None:
        found.append(max(limit - used, 0))
    return min(found, default=None)


def available_bytes(device: torch.device | str) -> int | None:
    """Return how many bytes can be allocated on a device now; None where nobody can tell."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _host_bytes() if device.type == "cpu" else None


def check_memory(what: str, needed: int, device: torch.device | str, on_host: int = 0) -> None:
    """Raise ValueError, in one line, where memory is needed that is not there.

    what:     the subject of the line, such as "a replay of 1,000 frames"
    needed:   bytes on the device
    on_host:  bytes in the host's memory, beside those where that is the device
    """
    asked = {str(device): needed}
    asked["cpu"] = asked.get("cpu", 0) + on_host
    for place, size in asked.items():
        available = available_bytes(place)
        if available is not None and size > available:
            raise ValueError(
                f"{what} takes {size / GIGABYTE:.2f} GB, and {place} has "
                f"{available / GIGABYTE:.2f} GB to give"
            )
