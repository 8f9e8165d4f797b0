"""The run of `experiments.two_step`: its parts, its files and what it says at the end."""

from collections.abc import Sequence
from typing import Any

import torch

from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.program import resumable
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json, write_text
from experiments.runs.folder.folder_contents import CONFIG, FIGURE, METRICS_FILE, SUMMARY
from experiments.runs.folder.run_folder import prepare_folder
from experiments.runs.folder.same_settings import resumed_config
from experiments.runs.recording.finished_parts import FinishedParts, seconds_to_write
from experiments.runs.results.phases import PhaseClock
from experiments.two_step.build import in_turn, study_parts
from experiments.two_step.figures import draw_two_step
from experiments.two_step.settings import TwoStepSettings
from experiments.two_step.tables import line_verdicts, metrics_csv, optima_lines, window_lines


def run_two_step(settings: TwoStepSettings, argv: Sequence[str]) -> None:
    """Compute what is missing in the folder of checked settings, write and print what was found."""
    clock = PhaseClock()
    torch.set_num_threads(1)
    kept = stored(settings)
    if settings.resume:
        resumed_config(settings.out, kept, (), ())
    with (
        prepare_folder(settings.out, settings.overwrite, settings.resume) as folder,
        resumable(settings.program, argv, folder, "finished parts are"),
    ):
        clock.switch("write")
        # Read before anything is written: the file may turn out to be damaged.
        parts = FinishedParts(folder)
        write_json(folder / CONFIG, configuration(kept))
        wanted = study_parts(settings)
        with clock.phase("learn"):
            values = parts.complete(wanted, in_turn, "two_step", "parts")
        found: dict[str, dict[Any, Any]] = {}
        for part in wanted:
            found.setdefault(part.kind, {})[part.key] = values[part.name]
        rows = [row for of_line in found.pop("lines").values() for row in of_line]
        write_text(folder / METRICS_FILE, metrics_csv(rows))
        summary = {
            "problem": "linear networks",
            "seed": settings.seed,
            "seconds": seconds_to_write(
                folder / SUMMARY, clock.seconds() | {"learn": parts.seconds}, parts.computed
            ),
        }
        write_json(folder / SUMMARY, {**summary, **found})
        optima = found["one_step_optima"]
        draw_two_step(
            folder / FIGURE, settings.width, rows, found["published"], optima, settings.vector
        )
    print("", *line_verdicts(rows), sep="\n")
    print("", *window_lines(found["windows"]), sep="\n")
    print("\none exact step at its best, training loss over that before it (mean over draws):")
    print(*optima_lines(optima), sep="\n")
    print(f"\nfigure: {folder / FIGURE}")
    print(clock.line())
