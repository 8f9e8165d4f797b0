"""How many runs of a comparison are trained at a time, and whether their replays fit."""

from experiments.compare_dqn.settings import Comparison, ComparisonSettings
from experiments.runs.command_line.computing import resolve_device
from experiments.train_dqn.build import games, network_of, replay_size
from neural_tdc.device_memory import check_memory


def runs_at_a_time(settings: ComparisonSettings) -> int:
    """Return the number of runs trained in parallel, at most the number of runs."""
    runs = len(settings.problem) * len(settings.arm) * settings.seeds
    return min(settings.parallel, runs)


def check_replays(comparison: Comparison) -> None:
    """Raise ValueError in one line where the replays of the runs at a time do not fit."""
    settings = comparison.settings
    for game in settings.problem:
        run = comparison.run(game, settings.arm[0], 0)
        device = resolve_device(run.device)
        environments = games(run, 1)
        try:
            network_of(run, environments)
            on_device, on_host = replay_size(run, environments)
        finally:
            environments.close()
        count = runs_at_a_time(settings)
        replays = (
            f"--parallel {settings.parallel}: holding {count} replays" if count > 1 else "a replay"
        )
        what = f"{replays} of {run.replay_capacity:,} frames (--replay-capacity)"
        check_memory(what, count * on_device, device, count * on_host)
