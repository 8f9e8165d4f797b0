"""Parts in processes of their own: the tests for a GPU, bits of another process, a small study."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.gpu.populations import learned_digest, modes
from benchmarks.gpu.q_networks import two_learners_differ
from benchmarks.gpu.record import Record
from benchmarks.gpu.timing import Setting

STUDY = (
    "experiments.sweep --problem garnet --width 8 --rule td tdc --ratios 1 10 --fresh-runs 0 "
    "--body-steps 2^-10:2^-4 --runs 100 --steps 2000 --measure-every 200"
)
SMALL_STUDY = (
    "experiments.sweep --problem garnet --width 8 --rule td --ratios 1 --fresh-runs 0 "
    "--body-steps 2^-7 --runs 2 --steps 20 --measure-every 10"
)


def ran(
    line: Sequence[str], limit: float, log: Path, environment: Mapping[str, str] | None = None
) -> tuple[int | None, list[str]]:
    """Run a module of Python; return its status, None where it took too long, and its last lines.

    limit: seconds
    log:   file of what it says
    """
    with log.open("w") as file:
        try:
            status: int | None = subprocess.run(
                [sys.executable, *line],
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
                env={**os.environ, **(environment or {})},
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    return status, log.read_text(errors="replace").strip().splitlines()[-12:]


def measure_tests(record: Record, setting: Setting, out: Path, limit: float) -> None:
    """Add a row with the outcome of the tests that need a GPU."""
    begun = time.perf_counter()
    line = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "-rfE", "--tb=line", "-v"]
    status, said = ran(line, min(limit, record.left()), out / "tests.txt")
    record.row("tests", status=status, seconds=time.perf_counter() - begun, said=said)


def measure_bits(record: Record, setting: Setting, out: Path) -> None:
    """Add rows that tell where two runs have the same bits."""
    for mode in modes(setting):
        found = [learned_digest(mode, setting) for _ in range(2)]
        same = None
        if "compiled" in mode and "graph" not in mode:
            # A compiler that tunes kernels by time may choose others in another process.
            cache = {"TORCHINDUCTOR_CACHE_DIR": str((out / "other-cache").resolve())}
            line = ["-m", "benchmarks.gpu", "--digest", mode, "--device", setting.device.type]
            _, said = ran(line, min(100, record.left()), out / "digest.txt", cache)
            same = bool(said) and said[-1] == found[0]
        record.row("bits", mode=mode, same_again=found[0] == found[1], same_in_other_process=same)
    difference = two_learners_differ(setting)
    record.row("bits", mode="DQN", same_again=difference == 0, difference=difference)
    if setting.on_gpu:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        try:
            difference = two_learners_differ(setting)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic = False
        record.row(
            "bits", mode="DQN deterministic", same_again=difference == 0, difference=difference
        )


def measure_study(record: Record, setting: Setting, out: Path) -> None:
    """Add a row with the seconds of a small study, from the command to the last figure."""
    begun, folder = time.perf_counter(), out / f"study-{os.getpid()}"
    command = (SMALL_STUDY if setting.small else STUDY).split()
    line = ["-m", *command, "--device", setting.device.type, "--out", str(folder)]
    status, said = ran(line, max(30.0, record.left()), out / "study.txt")
    record.row("study", status=status, seconds=time.perf_counter() - begun, said=said[-2:])
