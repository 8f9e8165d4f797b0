"""How near values come to the truth: python -m benchmarks.accuracy [--problems …] [--seeds N].

Every method learns from the same logs of 20,000 transitions of simulators on which nothing was
tuned, and is measured by the same truth, which none of them sees. Errors are RMSVE divided by the
spread of the true values over states: 1 is as good as the best constant.

Jobs (problem, seed) are independent processes. Each writes its file in --out after every method, so
that the same command continues what was stopped. --tables prints what is there.
"""

import argparse
import multiprocessing
import os
import platform
from pathlib import Path

from benchmarks.accuracy.cases import DESIGNED, TRANSITIONS
from benchmarks.accuracy.problems import PROBLEMS
from benchmarks.accuracy.run import Task, finished, job
from benchmarks.accuracy.table import COLUMNS, tables
from neural_tdc.cores import available_cores


def main() -> None:
    """Run what is not there yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=(*PROBLEMS, *DESIGNED),
        metavar="PROBLEM",
        help="all if not given",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=COLUMNS,
        metavar="METHOD",
        help="columns of the table; all if not given",
    )
    parser.add_argument("--seeds", type=int, default=3, help="logs of each problem (3)")
    parser.add_argument("--jobs", type=int, default=available_cores())
    parser.add_argument("--out", type=Path, help="runs/accuracy or runs/designed")
    parser.add_argument(
        "--designed",
        action="store_true",
        help="the problems that families and criterion were chosen on (docs/best-value.md)",
    )
    parser.add_argument(
        "--with-rules",
        action="store_true",
        help="learning rules as candidates too: several minutes more for each log",
    )
    parser.add_argument("--tables", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    out = arguments.out or Path("runs") / ("designed" if arguments.designed else "accuracy")
    out.mkdir(parents=True, exist_ok=True)
    names = arguments.problems or list(DESIGNED if arguments.designed else PROBLEMS)
    tasks = [
        Task(
            name, seed, str(out), arguments.methods and (*arguments.methods,), arguments.with_rules
        )
        for seed in range(arguments.seeds)
        for name in names
    ]
    if not arguments.tables:
        with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
            for _ in pool.imap(job, tasks):
                pass
    found = [finished(task.problem, task.seed, task.folder) for task in tasks]
    present = [each for each in found if each is not None]
    logs = f"{len(present)} of {len(tasks)} logs"
    print(f"\n{TRANSITIONS:,} transitions, {logs}, {platform.processor()}\n")
    print(tables(present))


if __name__ == "__main__":
    main()
