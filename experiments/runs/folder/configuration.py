"""What is written down about a run: its settings, and with what and where it was run."""

import contextlib
import datetime
import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.runs.folder.files import json_value
from neural_tdc.version import VERSION


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[3]
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """Return the code's commit and whether files differ from it; None where there is no git.

    It is asked for once: what runs is the code that the process has read.
    """
    top = _git("rev-parse", "--show-toplevel")
    # A copy that lies inside somebody else's repository has none of its own.
    if top is None or Path(top).resolve() != Path(__file__).resolve().parents[3]:
        return None, None
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git("status", "--porcelain")
    return commit or None, None if not commit or changes is None else bool(changes)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def uses_tf32(device: torch.device) -> bool:
    """Tell whether some products of a device are computed in TF32."""
    allowed = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return device.type == "cuda" and allowed


def configuration(
    settings: Mapping[str, Any], device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return what `config.json` holds: the settings, and with what and where they were run.

    Added are `versions`, `commit`, `dirty`, `device_name`, `tf32`, `threads`, `platform` and `date`
    (UTC);
    a setting of one of these names is left as it was given.
    """
    commit, dirty = _commit()
    given = {name: json_value(value) for name, value in settings.items()}
    added = {
        "versions": {
            "neural_tdc": VERSION,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": _version("gymnasium"),
        },
        "commit": commit,
        "dirty": dirty,
        "device_name": _device_name(torch.device(device)),
        "tf32": uses_tf32(torch.device(device)),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return {**given, **{name: value for name, value in added.items() if name not in given}}
