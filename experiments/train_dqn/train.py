"""A run of deep Q-learning from its settings to its end; a comparison has many of them."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents.dqn.replay import check_capacity
from envs.games.atari import ATARI
from experiments.runs.command_line.checks import UsageError, named
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.computing import NO_COMPILER, resolve_device
from experiments.runs.command_line.processes import interruptible
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CONFIG, FIGURE
from experiments.runs.folder.run_folder import check_folder, prepare_folder
from experiments.runs.folder.same_settings import resumed_config
from experiments.runs.results.phases import PhaseClock
from experiments.train_dqn.build import games, memory_line, protocol_line, training
from experiments.train_dqn.figures import run_figure
from experiments.train_dqn.run import DQNRun
from experiments.train_dqn.settings import DQNSettings
from neural_tdc.compiled.private_compiler import compiler_available


def _threads(settings: DQNSettings, at_once: int) -> int:
    """Return how many threads compute: small layers lose more by waiting than they gain."""
    if settings.threads:
        return settings.threads
    if not settings.problem.startswith(ATARI):
        return 1
    return max(1, torch.get_num_threads() // at_once)


def train(
    settings: DQNSettings,
    stopping: Callable[[], bool] | None = None,
    at_once: int = 1,
    clock: PhaseClock | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run the settings to their end, and return the summary and the folder of the run.

    stopping:  tells whether to stop after the present measurement; None: after Ctrl-C or SIGTERM
    at_once:   runs that share the machine
    clock:     of the program; a new one if not given

    Raises UsageError for what is not allowed, KeyboardInterrupt after a stop with all saved, and
    Stopped where the loss is not finite.
    """
    clock = PhaseClock() if clock is None else clock
    tf32 = settings.precision == "tf32"
    device = resolve_device(settings.device, tf32=tf32, deterministic=settings.deterministic)
    if tf32 and device.type == "cpu":
        raise UsageError("--precision tf32 needs a GPU: give float32 or bf16 on the CPU")
    out = settings.folder
    check_folder(out, settings.overwrite, settings.resume)
    compiled = settings.compile and compiler_available(device)
    if settings.compile and not compiled:
        print(f"warning: --compile: {NO_COMPILER}, so the run is eager", file=sys.stderr)
    # A longer resumed run keeps its rates where they were: their fall ends where it was to end.
    rate_end = settings.steps
    if settings.resume:
        # Threads that are left to the program are those that it chose before.
        given = stored(settings)
        chosen = {name: value for name, value in given.items() if name != "threads" or value}
        also = ("compiled", "rate_end", *given)
        config = resumed_config(out, chosen, also, settings.may_differ)
        compiled, rate_end = config["compiled"], config["rate_end"]
        settings = replace(settings, threads=config["threads"])
    settings = replace(settings, threads=_threads(settings, at_once))
    torch.set_num_threads(settings.threads)
    # Before any is made: an observation has one frame at least.
    with named(f"--replay-capacity {settings.replay_capacity}"):
        check_capacity(
            settings.replay_capacity, settings.environments, stack=1, steps=settings.n_step
        )
    clock.switch("write")
    environments = games(settings, settings.environments)
    evaluation = games(settings, settings.evaluation_episodes, evaluation=True)
    try:
        print(memory_line(settings, environments, device))
        learning = training(settings, environments, device, compiled)
        learning.schedule = learning.schedule._replace(steps=rate_end)
        with prepare_folder(out, settings.overwrite, settings.resume) as folder:
            # All is read before anything is written: a checkpoint may turn out to be damaged.
            run = DQNRun(folder, settings, learning, evaluation, clock)
            where = {"device": device.type, "compiled": compiled}
            chosen = {**stored(settings), **where, "rate_end": rate_end}
            write_json(
                out / CONFIG,
                {
                    **configuration(chosen, device),
                    "protocol_training": environments.protocol,
                    "protocol_evaluation": evaluation.protocol,
                },
            )
            print(f"{settings.problem}: {protocol_line(run.protocol)}, on {device}")
            if rate_end < settings.steps and settings.rate_last < 1:
                run.notes.append(
                    f"the rates keep their last factor {settings.rate_last:g} from step "
                    f"{rate_end:,} on, where the run was to end"
                )
            for note in run.notes:
                print(f"resumed: {note}")
            with interruptible() if stopping is None else contextlib.nullcontext(stopping) as asked:
                run.learn(asked)
            title = f"{settings.rule}, {settings.arm} on {settings.problem}"
            run_figure(out / FIGURE, run.history, title, run.protocol, settings.vector)
            # Last: a comparison takes a run with a summary for finished.
            result = run.summary()
    finally:
        environments.close()
        evaluation.close()
    return result, out
