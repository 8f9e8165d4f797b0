"""Measure rates of convergence: python -m experiments.convergence --out DIR

Descent on two time scales with steps that decay by the exponents of Theorems 3.6 and 3.7 of
arXiv 2605.15530 and with uniform steps, on instances whose Φ, θ*(W) and W* are known.
"""

from collections.abc import Sequence

from experiments.convergence.settings import ConvergenceSettings
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, parse
from experiments.runs.folder.run_folder import check_folder


def convergence(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(ConvergenceSettings, argv)
    check_folder(settings.out, settings.overwrite, settings.resume)
    # torch takes longer to import than a command line to be read.
    from experiments.convergence.run import run_convergence

    run_convergence(settings, argv)


if __name__ == "__main__":
    leave(main(convergence))
