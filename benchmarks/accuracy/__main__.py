"""How close learned values are to the true values: python -m benchmarks.accuracy.

Every method learns from the same logs of 20,000 transitions of simulators on which nothing was
tuned. The true values measure all methods, and no method sees them. An error is RMSVE divided by
the standard deviation of the true values over states, so the best constant has an error of 1.

Each job (problem, seed) is a process of its own and writes its file in --out after every method. A
stopped benchmark continues when the same command is run again.
"""

import multiprocessing
import os
import platform
from pathlib import Path

from benchmarks.accuracy.cases import DESIGNED, TRANSITIONS
from benchmarks.accuracy.problems import PROBLEMS
from benchmarks.accuracy.run import Task, finished, job
from benchmarks.accuracy.table import COLUMNS, tables
from benchmarks.command_line import CommandLine, whole_number
from neural_tdc.cores import available_cores


def main() -> None:
    """Run the missing jobs and print the tables."""
    parser = CommandLine("accuracy", __doc__)
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=(*PROBLEMS, *DESIGNED),
        metavar="PROBLEM",
        help="names of problems (default: all)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=COLUMNS,
        metavar="METHOD",
        help="columns of the table (default: all)",
    )
    parser.add_argument("--seeds", type=whole_number(), default=3, help="logs of each problem")
    parser.add_argument(
        "--jobs", type=whole_number(), default=available_cores(), help="processes in parallel"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the results (default: runs/accuracy; with --designed runs/designed)",
    )
    parser.add_argument(
        "--designed",
        action="store_true",
        help="use the problems on which the search was designed (docs/best-value.md)",
    )
    parser.add_argument(
        "--with-rules",
        action="store_true",
        help="learning rules are candidates too; each log needs several minutes more",
    )
    parser.add_argument("--tables", action="store_true", help="only print the present results")
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
