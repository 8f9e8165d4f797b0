"""How often intervals of ρ(π) contain the true value: python -m benchmarks.coverage.

The chains have exact values. ρ(π) is the mean value of the first states. Every log of a chain is
resampled (`neural_tdc.learning.resampling`), and LSTD, TD (600 updates of 16 transitions) and the
search for the best value function without networks learn from the resamples. The coverage is the
share of logs whose 95 % interval contains the exact ρ(π). Each finished job is a file in --out and
is not run again, so a stopped benchmark continues when the same command is run again.
"""

import os
import sys
from pathlib import Path

import torch

from benchmarks.command_line import CommandLine, whole_number
from benchmarks.coverage.cases import CHAINS, SIZES
from benchmarks.coverage.run import METHODS, Job, result
from benchmarks.coverage.table import Results, calibration_figure, table

# Logs of one job.
TOGETHER = 20


def main() -> None:
    """Run the missing jobs, print the table and draw the figure."""
    parser, number = CommandLine("coverage", __doc__), whole_number()
    parser.add_argument(
        "--chains", nargs="+", default=list(CHAINS), choices=list(CHAINS), help="names of chains"
    )
    parser.add_argument(
        "--sizes", nargs="+", type=number, default=list(SIZES), help="transitions of a log"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="what learns"
    )
    parser.add_argument("--logs", type=number, default=200, help="logs of each chain and size")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/coverage"), help="folder of results and figure"
    )
    arguments = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    # A first part of every row, then the next: a stopped benchmark has a table of fewer logs.
    for first in range(0, arguments.logs, TOGETHER):
        count = min(TOGETHER, arguments.logs - first)
        for chain in arguments.chains:
            for size in arguments.sizes:
                for method in arguments.methods:
                    found = result(Job(chain, size, method, first, count), arguments.out)
                    row = results.setdefault((chain, size, method), {key: [] for key in found})
                    for key, values in found.items():
                        row[key] += values
        print(f"{first + count} of {arguments.logs} logs", file=sys.stderr, flush=True)
    print(table(results))
    path = arguments.out / "calibration.png"
    calibration_figure(results, path)
    print(f"\nfigure: {path}")


if __name__ == "__main__":
    main()
