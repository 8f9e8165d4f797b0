"""Train a deep Q-network with split learning rates: python -m experiments.train_dqn --problem NAME.

The run is a folder; see docs/dqn.md for what its files and metrics mean.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from envs.games.atari import ATARI
from experiments.runs.command_line import main, parse, resolve_device, resumable
from experiments.runs.configuration import configuration
from experiments.runs.files import write_json
from experiments.runs.processes import interruptible
from experiments.runs.report import mean_with_interval, tensorboard_line
from experiments.runs.run_folder import (
    CONFIG,
    FIGURE,
    check_folder,
    folder_name,
    prepare_folder,
    resumed_config,
)
from experiments.train_dqn.build import games, memory_line, protocol_line, training
from experiments.train_dqn.figures import run_figure
from experiments.train_dqn.run import Run
from experiments.train_dqn.settings import RESUME_MAY_CHANGE, Settings, filled
from neural_tdc.learning.compilation import compiler_available

PROGRAM = "python -m experiments.train_dqn"


def _threads(values: dict[str, Any], at_once: int) -> int:
    """Return how many threads compute: small layers lose more by waiting than they gain."""
    if not values["problem"].startswith(ATARI):
        return 1
    return max(1, torch.get_num_threads() // at_once)


def train(
    settings: Settings, stopping: Callable[[], bool] | None = None, at_once: int = 1
) -> tuple[Run, Path]:
    """Run the settings to their end, and return the finished run and its folder.

    stopping:  tells whether to stop after the present measurement; None: after Ctrl-C or SIGTERM
    at_once:   runs that share the machine

    Raises UsageError for what is not allowed, KeyboardInterrupt after a stop with all saved, and
    Stopped where the loss is not finite.
    """
    values = filled(settings)
    device = resolve_device(settings.device)
    values["device"] = device.type
    out = settings.out or Path("runs") / folder_name(values["problem"])
    check_folder(out, settings.overwrite, settings.resume)
    compiled = values["compile"] and compiler_available(device)
    if values["compile"] and not compiled:
        print("warning: --compile: there is no C++ compiler here", file=sys.stderr)
    if settings.resume:
        # Threads that are left to the program are those that it chose before.
        chosen = {name: value for name, value in values.items() if name != "threads" or value}
        config = resumed_config(out, chosen, ("compiled", *values), RESUME_MAY_CHANGE)
        compiled, values["threads"] = config["compiled"], config["threads"]
    values["threads"] = values["threads"] or _threads(values, at_once)
    torch.set_num_threads(values["threads"])
    environments = games(values, values["environments"])
    evaluation = games(values, values["evaluation_episodes"], evaluation=True)
    try:
        print(memory_line(values, environments, device))
        learning = training(values, environments, device, compiled)
        with prepare_folder(out, settings.overwrite, settings.resume) as folder:
            write_json(
                out / CONFIG,
                {
                    **configuration({**values, "compiled": compiled}, device),
                    "protocol_training": environments.protocol,
                    "protocol_evaluation": evaluation.protocol,
                },
            )
            run = Run(folder, values, learning, evaluation)
            print(f"{values['problem']}: {protocol_line(run.protocol())}, on {device}")
            for note in run.notes:
                print(f"resumed: {note}")
            with interruptible() if stopping is None else contextlib.nullcontext(stopping) as asked:
                run.learn(asked)
            run.summary()
            title = f"{values['arm']} on {values['problem']}"
            run_figure(out / FIGURE, run.history, title, run.protocol())
    finally:
        environments.close()
        evaluation.close()
    return run, out


def train_dqn(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(Settings, argv, PROGRAM, Settings.__doc__ or "")
    with resumable(PROGRAM, argv):
        run, out = train(settings)
    result = run.summary()
    print(
        f"score: {mean_with_interval(result['final'])} over {len(result['final']['scores'])} games"
    )
    print(f"speed: {result['agent_steps_per_second'] or 0:.0f} agent steps a second")
    print(f"figure: {out / FIGURE}")
    print(f"watch:  {tensorboard_line(out)}")


if __name__ == "__main__":
    sys.exit(main(train_dqn))
