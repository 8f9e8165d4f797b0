"""A run of supervised learning from its settings to its end; `landscape` looks at one too."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from experiments.runs.command_line.computing import limit_threads
from experiments.runs.command_line.program import resumable
from experiments.runs.folder.run_folder import check_folder, prepare_folders
from experiments.runs.folder.same_settings import resumed_config
from experiments.runs.results.phases import PhaseClock
from experiments.train_supervised.build import (
    SupervisedPlan,
    default_folder,
    supervised_plan,
    threads,
)
from experiments.train_supervised.run import SupervisedRun
from experiments.train_supervised.settings import SupervisedSettings


@contextlib.contextmanager
def supervised_run(
    settings: SupervisedSettings,
    argv: Sequence[str],
    watched: Callable[[SupervisedPlan], Any] | None = None,
) -> Iterator[SupervisedRun]:
    """Run checked settings in their folder to the end, and keep the folder for what follows.

    watched: makes what looks at every measurement, see `SupervisedRun.learn`
    Raises Stopped after Ctrl-C and SIGTERM, all saved.
    """
    clock = PhaseClock()
    out = default_folder(settings)
    check_folder(out, settings.overwrite, settings.resume)
    clock.switch("experience")
    made = supervised_plan(settings)
    clock.switch("write")
    compiled = made.compiled
    if settings.resume:
        compiled = resumed_config(out, made.stored, ("compiled",), settings.may_differ)["compiled"]
    limit_threads()
    torch.set_num_threads(threads(made))
    arms, overwrite, resume = settings.arm, settings.overwrite, settings.resume
    with (
        prepare_folders(out, arms, overwrite, resume, one_checkpoint=True) as folders,
        resumable(settings.program, argv, out),
    ):
        # All is read before anything is written: a checkpoint may turn out to be damaged.
        run = SupervisedRun(made, out, folders, compiled, clock)
        run.write_configuration()
        run.learn(watched(made) if watched else None)
        yield run
