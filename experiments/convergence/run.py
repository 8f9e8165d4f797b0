"""The run of `experiments.convergence`: descents in their folder, its files and its tables."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from experiments.convergence.descents import (
    INSTANCES,
    PACES,
    SCHEDULES,
    Pace,
    Population,
    descents,
)
from experiments.convergence.figures import draw_convergence
from experiments.convergence.settings import ConvergenceSettings
from experiments.convergence.structure import kink, least_curvatures, without_ridge
from experiments.convergence.tables import all_slopes, slope_table, structure_lines
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.program import resumable
from experiments.runs.folder.checkpoint import restored
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, CONFIG, FIGURE
from experiments.runs.folder.run_folder import prepare_folder
from experiments.runs.folder.same_settings import resumed_config
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.progress import Progress
from experiments.runs.results.report import tensorboard_line
from neural_tdc.types import Parameters

NAME = "convergence"


class Descents:
    """Descents in their folder, from the beginning or from their checkpoint."""

    def __init__(
        self,
        folder: Path,
        settings: ConvergenceSettings,
        paces: Mapping[str, Pace],
        clock: PhaseClock,
    ) -> None:
        self.settings = settings
        self.populations = [
            Population(name, pace, settings.runs, settings.seed) for name, pace in paces.items()
        ]
        # What is measured is cheap to keep and dear to compute: it is saved at once.
        self.recorder = Recorder(
            folder / CHECKPOINT, {NAME: folder}, {"leaves"}, every=0.0, clock=clock
        )
        if (saved := self.recorder.saved) is not None:
            state = restored(self._state(), saved["leaves"], self.recorder.path)
            self.recorder.resume([saved["step"]])
            for population in self.populations:
                population.resume(state[population.name], saved["step"])

    def _state(self) -> dict[str, Parameters]:
        return {each.name: each.parameters for each in self.populations}

    def descend(self) -> None:
        """Descend to the end; every measurement is saved, and what stops it is raised."""
        recorder, runs, steps = self.recorder, self.settings.runs, self.settings.steps
        if recorder.start >= steps:
            return
        lines = runs * len(self.populations) * len(SCHEDULES)
        lost = np.zeros(runs, dtype=bool)
        with recorder.writing(), Progress(NAME, steps, lines, recorder.start) as progress:
            for update, values in descents(
                self.populations, steps, self.settings.smoothing, recorder.clock.switch
            ):
                leaves = tree_flatten(self._state())[0]
                recorder.record(update, {NAME: values}, {NAME: lost}, partial(dict, leaves=leaves))
                progress.update(update)


def run_convergence(settings: ConvergenceSettings, argv: Sequence[str]) -> None:
    """Descend in the folder of checked settings, write and print what was found."""
    clock = PhaseClock()
    # Tensors of some hundred numbers: a second thread would only wait.
    torch.set_num_threads(1)
    fit_from = settings.fit_from or max(1, settings.steps // 20)
    paces = {
        name: Pace(settings.first_step or PACES[name].first, settings.offset or PACES[name].offset)
        for name in settings.instance
    }
    kept = stored(settings) | {
        "fit_from": fit_from,
        "paces": {name: list(pace) for name, pace in paces.items()},
    }
    if settings.resume:
        resumed_config(settings.out, kept, (), ())
    with (
        prepare_folder(settings.out, settings.overwrite, settings.resume) as folder,
        resumable(settings.program, argv, folder),
    ):
        clock.switch("write")
        # All is read before anything is written: a checkpoint may turn out to be damaged.
        run = Descents(folder, settings, paces, clock)
        write_json(folder / CONFIG, configuration(kept))
        run.descend()
        history = run.recorder.histories[NAME]
        clock.switch("measure")
        slopes = all_slopes(history, settings.instance, fit_from)
        structure: dict[str, Any] = {
            "curvature": {name: least_curvatures(INSTANCES[name]()) for name in paces},
            "without_ridge": without_ridge(),
            "kink": kink(),
        }
        clock.switch("write")
        run.recorder.summaries(
            " ".join(settings.instance),
            settings.steps,
            settings.seed,
            **{"fit_from": fit_from, "slopes": slopes, **structure},
        )
        draw_convergence(folder / FIGURE, history, slopes, fit_from, settings.vector)
    print(f"\n{slope_table(slopes)}")
    fitted = f"updates {fit_from:,} to {settings.steps:,}"
    print(f"slopes of the mean over {settings.runs} runs, {fitted}\n")
    print(structure_lines(structure["curvature"], structure["without_ridge"], structure["kink"]))
    print(f"\nfigure: {folder / FIGURE}")
    print(f"watch:  {tensorboard_line(folder)}")
    print(clock.line())
