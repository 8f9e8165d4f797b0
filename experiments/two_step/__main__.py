"""One and two steps of linear networks: python -m experiments.two_step --out DIR

The closed forms of arXiv 2606.00340, compared with simulations of the signal part and of the exact
gradient, and where equal learning rates of the two layers are best.
"""

from collections.abc import Sequence

from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, parse
from experiments.runs.folder.run_folder import check_folder
from experiments.two_step.settings import TwoStepSettings


def two_step(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(TwoStepSettings, argv)
    check_folder(settings.out, settings.overwrite, settings.resume)
    # torch takes longer to import than a command line to be read.
    from experiments.two_step.run import run_two_step

    run_two_step(settings, argv)


if __name__ == "__main__":
    leave(main(two_step))
