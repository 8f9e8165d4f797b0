"""How often intervals of ρ(π) hold the truth: python -m benchmarks.coverage [--logs N].

Every log of a chain with exact values is resampled (`neural_tdc.learning.resampling`), by a rule
(LSTD, and TD with 600 updates of 16 transitions) and by the best value function without
networks. The share of logs whose 95 % interval holds ρ(π), the exact mean value of the starts, is
the coverage. Finished jobs are found again in --out, so a stopped benchmark continues.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks.coverage.cases import CHAINS, SIZES
from benchmarks.coverage.run import METHODS, Job, result
from benchmarks.coverage.table import Results, calibration_figure, table

# Logs of one job.
TOGETHER = 20


def main() -> None:
    """Run what is not there yet, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", nargs="+", default=list(CHAINS), choices=list(CHAINS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="transitions")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--logs", type=int, default=200, help="logs of each chain (200)")
    parser.add_argument("--out", type=Path, default=Path("runs/coverage"))
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
