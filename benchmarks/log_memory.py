"""Peak memory with a log of pictures: python -m benchmarks.log_memory.

The program writes a log of random pictures to a temporary folder. Each case evaluates it in a
process of its own, and a log of 2,000 rows in another process. The table has the bytes of the
pictures, how much more memory the whole log needs at its peak than the small log, and the ratio of
these two numbers. What a run needs with any log, such as imported modules, is in the column `of any
log`. It works on Linux only.
"""

import argparse
import atexit
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command_line import CommandLine, whole_number

POLICY = """
import torch

def policy(observation):
    return torch.tensor([0.4, 0.3, 0.2, 0.1]).expand(len(observation), 4)
"""
RULE = "--rule td --runs 1 --steps 100 --measure-every 100 --compile off"
METHOD = "--runs 1 --prefixes 1"
# Flags of evaluate_policy by the name of the case.
CASES = {
    "auto": "--updates {updates}",
    "auto, another policy": "--updates {updates} --policy own_policy:policy",
    "auto, resampled": "--updates {updates} --resample episodes",
    **{name: f"--rule {name} {METHOD}" for name in ("constant", "lstd-random", "lstd-fourier")},
    **{
        name: f"--rule {name} {METHOD} --updates {{updates}}"
        for name in ("fitted", "stackelberg-td")
    },
    "td": RULE,
    "values q": f"{RULE} --values q --policy own_policy:policy",
    "features given": f"{RULE} --features given",
}
# Cases in Python, on tensors in uint8.
IN_PYTHON = ("evaluate", "evaluate, values q", "best_value")
SMALL = 2_000


def write_log(path: Path, rows: int, shape: tuple[int, ...]) -> int:
    """Write a log of random pictures and return the bytes of its pictures."""
    draws = np.random.default_rng(0)
    pictures = np.frombuffer(draws.bytes(rows * int(np.prod(shape))), np.uint8)
    np.savez(
        path,
        observation=pictures.reshape(rows, *shape),
        action=draws.integers(0, 4, rows),
        reward=draws.normal(size=rows),
        terminated=np.arange(rows) % 200 == 199,
        truncated=np.zeros(rows, bool),
        behaviour_probability=np.full(rows, 0.25),
    )
    return pictures.nbytes


def in_python(path: Path, case: str, updates: int) -> None:
    """Evaluate a log in Python, whose pictures stay in uint8."""
    import torch

    from neural_tdc import Transition, evaluate
    from neural_tdc.best_value import best_value

    log = np.load(path)
    seen, reward = (torch.from_numpy(log[name]) for name in ("observation", "reward"))
    discount = 0.99 * torch.from_numpy(~log["terminated"]).double()
    stream = Transition(seen[:-1], reward[:-1], discount[:-1], seen[1:], torch.ones(len(seen) - 1))
    if case == "best_value":
        best_value(stream, updates=updates)
        return
    of_actions: dict[str, Any] = {}
    if case == "evaluate, values q":
        action = torch.from_numpy(log["action"][:-1])
        even = torch.full((1, 4), 0.25)
        of_actions = {"values": "q", "action": action, "policy": lambda s: even.expand(len(s), 4)}
    evaluate(stream, rule="td", steps=100, sampling="replay", batch=32, **of_actions)


def tell_peak() -> None:
    """Print the most bytes that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    print(1024 * int(peak.split()[1]), flush=True)


def child(case: str, path: Path, updates: int) -> None:
    """Run a case in this process, whose last line is then its peak."""
    # The first one that is registered is the last one that runs.
    atexit.register(tell_peak)
    if case in IN_PYTHON:
        in_python(path, case, updates)
        return
    flags = CASES[case].format(updates=updates).split()
    sys.argv[1:] = ["--data", str(path), "--out", str(path.with_suffix("")), *flags]
    runpy.run_module("experiments.evaluate_policy", run_name="__main__", alter_sys=True)


def peak_of(case: str, path: Path, updates: int) -> int:
    """Return the peak of a process that runs a case."""
    command = [sys.executable, "-m", "benchmarks.log_memory", "--updates", str(updates)]
    paths = [str(path.parent), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [*command, "--child", case, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return int(found.stdout.splitlines()[-1])


def main() -> None:
    """Write the logs, run every case in processes of their own and print the table."""
    parser, number = CommandLine("log_memory", __doc__), whole_number()
    parser.add_argument("--side", type=number, default=42, help="height and width in pixels")
    parser.add_argument("--channels", type=number, default=1, help="channels of a picture")
    parser.add_argument("--rows", type=number, default=100_000, help="pictures of the log")
    parser.add_argument(
        "--updates", type=number, default=40, help="updates of networks, and of their targets"
    )
    every = [*CASES, *IN_PYTHON]
    parser.add_argument(
        "--cases", nargs="+", default=every, choices=every, metavar="CASE", help="what is measured"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]), given.updates)
        return
    print("| case | pictures | more at the peak | ratio | of any log |")
    print("|---|---|---|---|---|")
    for case in given.cases:
        shape: tuple[int, ...] = (given.channels, given.side, given.side)
        if case == "features given":
            shape = (int(np.prod(shape)),)
        with tempfile.TemporaryDirectory() as folder:
            small, path = Path(folder) / "small.npz", Path(folder) / "whole.npz"
            (Path(folder) / "own_policy.py").write_text(POLICY)
            write_log(small, SMALL, shape)
            size = write_log(path, given.rows, shape)
            least, peak = (peak_of(case, each, given.updates) for each in (small, path))
        more = peak - least
        print(
            f"| {case} | {size / 1e6:.0f} MB | {more / 1e6:.0f} MB | {more / size:.2f} | "
            f"{least / 1e6:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
