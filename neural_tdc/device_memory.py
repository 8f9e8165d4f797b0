"""How much memory a device has to give, and what does not fit in it.

On Linux the host's memory may be limited by control groups, each within another: what a process
can have is what the smallest of them leaves. Memory that a group holds as a cache of files counts
as free, since the kernel gives it back.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

GIGABYTE = 1e9
# Where Linux says which control groups a process is in, and what each group may and does use.
_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# The files of a group, in version 2 and 1: its limit, its use, and where its use is explained.
_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _groups() -> Iterator[tuple[int, Path]]:
    """Return version and folder of every control group for memory that this process is in."""
    # Within a container the membership may be told as the host sees it: the mounted root counts.
    yield 2, _GROUPS
    yield 1, _GROUPS / "memory"
    for line in _read(_MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        root = _GROUPS / "memory" if controllers else _GROUPS
        parts = Path(path.strip("/")).parts
        for length in range(1, len(parts) + 1):
            yield version, root.joinpath(*parts[:length])


def _left_in_group(version: int, folder: Path) -> int | None:
    """Return what the limit of a group leaves; None where it has none."""
    limit_file, used_file, cache = _FILES[version]
    limit, used = _read(folder / limit_file), _read(folder / used_file)
    if not (limit.isdecimal() and used.isdecimal()):
        return None
    stat = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines())
    return max(int(limit) - int(used) + int(stat.get(cache, 0)), 0)


def _host_bytes() -> int | None:
    found: list[int] = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable"):
            found.append(1024 * int(line.split()[1]))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    left = (_left_in_group(version, folder) for version, folder in _groups())
    return min([*found, *(size for size in left if size is not None)], default=None)


def available_bytes(device: torch.device | str) -> int | None:
    """Return how many bytes can be allocated on a device now; None if it is not known."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _host_bytes() if device.type == "cpu" else None


def check_memory(what: str, needed: int, device: torch.device | str, on_host: int = 0) -> None:
    """Raise ValueError, in one line, where more memory is needed than there is.

    what:     the subject of the line, such as "a replay of 1,000 frames"
    needed:   bytes on the device
    on_host:  bytes in the host's memory, in addition where the host is the device
    """
    asked = {str(device): needed}
    asked["cpu"] = asked.get("cpu", 0) + on_host
    for place, size in asked.items():
        available = available_bytes(place)
        if available is not None and size > available:
            raise ValueError(
                f"{what} takes {size / GIGABYTE:,.2f} GB, and {place} has "
                f"{available / GIGABYTE:,.2f} GB available"
            )
