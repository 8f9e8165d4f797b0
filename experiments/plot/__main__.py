"""Draw finished or interrupted runs again from their files, and compare them.

python -m experiments.plot FOLDER [FOLDER …] [--out FILE] [--metric NAME …]
"""

from collections.abc import Sequence

from experiments.plot.settings import PlotSettings
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, parse


def plot(argv: Sequence[str]) -> None:
    """Draw the figure and print the table of the runs named on a command line."""
    settings = parse(PlotSettings, argv)
    # torch takes longer to import than a command line to be read.
    from experiments.plot.run import plot_runs

    plot_runs(settings)


if __name__ == "__main__":
    leave(main(plot))
