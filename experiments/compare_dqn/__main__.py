"""Compare arms of deep Q-learning: python -m experiments.compare_dqn --problem NAME [NAME …].

Every game is learned with every arm from every seed, one run after another or several at a time,
each in a folder OUT/GAME/ARM/seed-N. Started again with --resume, finished runs are kept and others
go on. With --grid all runs learn as populations, in OUT/GAME/selection and OUT/GAME/report.
"""

from collections.abc import Sequence

from experiments.compare_dqn.settings import read_comparison
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, resumable
from experiments.runs.results.phases import PhaseClock


def compare_dqn(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    clock = PhaseClock()
    comparison = read_comparison(argv)
    settings, kept = comparison.settings, "finished runs and last checkpoints are"
    with resumable(settings.program, argv, settings.out, kept):
        if settings.grid:
            from experiments.compare_dqn.grid_run import compare_grid

            compare_grid(comparison, clock)
        else:
            from experiments.compare_dqn.run import compare

            compare(comparison, clock)
    print(clock.line())


if __name__ == "__main__":
    leave(main(compare_dqn))
