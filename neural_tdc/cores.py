"""How many cores a process may use: those it may run on, and what its job gives it.

A machine often has more cores than a process has: its affinity, a control group's share of time
(a container, a job), or the number that Slurm gave a task. The smallest of them counts.
"""

import os
from collections.abc import Iterator
from pathlib import Path

# Where Linux says which control groups a process is in, and what each group may use.
_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_OF_SLURM = "SLURM_CPUS_PER_TASK"


def available_cores() -> int:
    """Return how many cores this process may use, at least 1."""
    found = [_by_affinity(), *_of_groups()]
    task = os.environ.get(_OF_SLURM, "")
    if task.isdecimal():
        found.append(int(task))
    return max(1, min(found))


def _by_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _of_groups() -> Iterator[int]:
    """Return the whole cores that each control group with a limit leaves."""
    for folder in _folders():
        # Version 2: "QUOTA PERIOD", or "max PERIOD"; version 1: a file for each, −1 for no limit.
        words = _read(folder / "cpu.max").split() or [
            _read(folder / "cpu.cfs_quota_us"),
            _read(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            yield int(words[0]) // int(words[1])


def _folders() -> Iterator[Path]:
    """Return the folders of the groups that a process may be in, outer ones too."""
    # Within a container the membership may be told as the host sees it: the mounted root counts.
    yield _GROUPS
    yield _GROUPS / "cpu"
    for line in _read(_MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _GROUPS / "cpu" if controllers else _GROUPS
        parts = Path(path.strip("/")).parts
        for length in range(1, len(parts) + 1):
            yield root.joinpath(*parts[:length])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
