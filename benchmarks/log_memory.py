"""Peak memory of a log of pictures: python -m benchmarks.log_memory [--side 42 --channels 1 …].

A log of random pictures is written to a temporary folder. Each case evaluates it in a process of
its own, first a log of 2,000 rows and then the whole log. The table has the bytes of the pictures,
how much more memory the whole log takes at its peak than the small one, and the ratio of the two.
So imports and what a run takes with any log are left out; they are in the column `of any log`.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

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
IN_PYTHON = ("evaluate", "best_value")
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
    else:
        evaluate(stream, rule="td", steps=100, sampling="replay", batch=32)


def status(name: str) -> int:
    """Return an entry of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def run_case(case: str, small: Path, path: Path, updates: int) -> dict[str, int]:
    """Run a case in this process; return its peak with the small log and with the whole one."""
    from experiments.evaluate_policy.__main__ import evaluate_policy

    def evaluated(log: Path) -> None:
        if case in IN_PYTHON:
            in_python(log, case, updates)
            return
        flags = CASES[case].format(updates=updates).split()
        with contextlib.redirect_stdout(sys.stderr):
            done = evaluate_policy(["--data", str(log), "--out", str(log.with_suffix("")), *flags])
        if done:
            raise SystemExit(done)

    evaluated(small)
    before = status("VmHWM")
    # The peak is counted anew from here on.
    Path("/proc/self/clear_refs").write_text("5")
    evaluated(path)
    return {"small": before, "whole": status("VmHWM")}


def main() -> None:
    """Write the logs, run every case in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=42, help="pixels of a side")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=40, help="of networks, and of their targets")
    every = [*CASES, *IN_PYTHON]
    parser.add_argument("--cases", nargs="+", default=every, choices=every, metavar="CASE")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        case, small, path = given.child
        print(json.dumps(run_case(case, Path(small), Path(path), given.updates)))
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
            command = [sys.executable, "-m", "benchmarks.log_memory", "--updates"]
            command += [str(given.updates), "--child", case, str(small), str(path)]
            paths = os.pathsep.join([folder, os.getcwd(), os.environ.get("PYTHONPATH", "")])
            found = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": paths},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
                text=True,
            )
        peaks = json.loads(found.stdout.splitlines()[-1])
        more = peaks["whole"] - peaks["small"]
        print(
            f"| {case} | {size / 1e6:.0f} MB | {more / 1e6:.0f} MB | {more / size:.2f} | "
            f"{peaks['small'] / 1e6:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
