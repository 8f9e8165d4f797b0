"""How near values come to the truth: python -m benchmarks.accuracy [--problems …] [--seeds N].

Every method learns from the same logs of 20,000 transitions of simulators on which nothing was
tuned, and is measured by the same truth, which none of them sees. Errors are RMSVE divided by the
spread of the true values over states: 1 is as good as the best constant. Jobs (problem, seed) are
independent processes; finished ones are found again in --out.
"""

import argparse
import multiprocessing
import os
import platform
from pathlib import Path

from benchmarks.accuracy.problems import PROBLEMS
from benchmarks.accuracy.run import TRANSITIONS, job
from benchmarks.accuracy.table import table


def main() -> None:
    """Run what is not there yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", help="all if not given")
    parser.add_argument("--seeds", type=int, default=3, help="logs of each problem (3)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = arguments.problems or list(PROBLEMS)
    tasks = [(name, seed, str(arguments.out)) for seed in range(arguments.seeds) for name in names]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        found = list(pool.imap(job, tasks))
    print(f"\n{TRANSITIONS:,} transitions, {arguments.seeds} logs, {platform.processor()}\n")
    print(table(found))


if __name__ == "__main__":
    main()
