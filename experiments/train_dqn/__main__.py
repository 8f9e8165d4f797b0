"""Train a deep Q-network with split learning rates: python -m experiments.train_dqn --problem NAME.

The run is a folder; see docs/dqn.md for what its files and metrics mean.
"""

from collections.abc import Sequence

from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, resumable
from experiments.runs.folder.folder_contents import FIGURE
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.report import mean_with_interval, tensorboard_line
from experiments.train_dqn.reading import read_dqn_settings


def train_dqn(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    clock = PhaseClock()
    settings = read_dqn_settings(argv)
    from experiments.runs.command_line.computing import limit_threads
    from experiments.train_dqn.train import train

    limit_threads()
    with resumable(settings.program, argv, settings.folder):
        result, out = train(settings, clock=clock)
    print(
        f"score: {mean_with_interval(result['final'])} over {len(result['final']['scores'])} games"
    )
    print(f"speed: {result['agent_steps_per_second'] or 0:.0f} agent steps a second")
    print(f"figure: {out / FIGURE}")
    print(f"watch:  {tensorboard_line(out)}")
    print(clock.line())


if __name__ == "__main__":
    leave(main(train_dqn))
