"""One and two steps of linear networks: python -m experiments.two_step --out DIR

The closed forms of arXiv 2606.00340 beside simulation of the signal part and of the exact gradient,
and where equal learning rates of the two layers are best.
"""

import csv
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch

from experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.command_line import main, parse, resumable
from experiments.runs.common_settings import stored
from experiments.runs.configuration import configuration
from experiments.runs.files import write_json, write_text
from experiments.runs.report import Progress, mean_with_interval, number
from experiments.runs.run_folder import (
    CHECKPOINT,
    CONFIG,
    FIGURE,
    METRICS_FILE,
    SUMMARY,
    check_folder,
    prepare_folder,
    resumed_config,
)
from experiments.two_step.settings import TwoStepSettings

# Beside --width: where the window of equal rates is looked for.
WIDTHS = (8, 16, 32, 64, 128, 256, 1024)


class Parts:
    """The parts of the work in `checkpoint.pt`: one that is finished is not done again.

    seconds: what all finished parts took, over every resumption
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        self.seconds = 0.0
        if path.exists():
            saved = load_checkpoint(path)
            if saved.keys() != {"seconds", "values"}:
                raise ValueError(f"{path} belongs to another program's run")
            self._values, self.seconds = saved["values"], saved["seconds"]

    def __len__(self) -> int:
        return len(self._values)

    def value(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a part's value, plain numbers in lists and dictionaries; it is computed once."""
        if name not in self._values:
            begun = time.perf_counter()
            self._values[name] = compute()
            self.seconds += time.perf_counter() - begun
            save_checkpoint(self._path, {"seconds": self.seconds, "values": self._values})
        return self._values[name]


def _work(settings: TwoStepSettings) -> dict[str, dict[Any, Callable[[], Any]]]:
    """Return what there is to compute: the parts by kind and name."""
    from experiments.two_step import study

    width, seed = settings.width, settings.seed
    return {
        "lines": {
            (layers, total): partial(study.line_rows, layers, total, width, settings.draws, seed)
            for layers in study.LAYERS
            for total in sorted(settings.sums)
        },
        "windows": {
            f"layers {layers}, width {each}": partial(study.window_ends, layers, 2, each)
            for layers in study.LAYERS
            for each in sorted({*WIDTHS, width})
        },
        "least_loss_of_maps": {
            f"layers {layers}, steps {steps}": partial(study.least_loss, layers, steps, width)
            for layers in study.LAYERS
            for steps in study.STEPS
        },
        "published": {
            layers: partial(study.published_rows, layers, seed) for layers in study.LAYERS
        },
        "one_step_optima": {
            name: partial(study.one_step_optima, name, settings.optima_width, settings.optima, seed)
            for name in study.ONE_STEPS
        },
    }


def _finished(work: Mapping[str, Mapping[Any, Callable[[], Any]]], parts: Parts) -> dict[str, Any]:
    """Return the values of all parts, {kind: {name: value}}, computing those that are missing."""
    found: dict[str, Any] = {kind: {} for kind in work}
    total = sum(map(len, work.values()))
    with Progress("two_step", total, 1, len(parts), unit="parts") as progress:
        for kind, several in work.items():
            for name, compute in several.items():
                found[kind][name] = parts.value(f"{kind} {name}", compute)
                progress.update(len(parts))
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; an empty cell is a number that does not exist."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in row.items()})
    return text.getvalue()


def _line_verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each sum which share is best after two steps, in closed form and in simulation."""
    lines = [
        f"{'layers':<8}{'steps':<7}{'sum':<7}{'best share: closed form':<25}{'signal':<9}"
        f"{'exact':<9}exact loss there minus at equal rates"
    ]
    keys = dict.fromkeys((row["layers"], row["steps"], row["sum"]) for row in rows)
    for layers, steps, total in keys:
        chosen = [
            row
            for row in rows
            if (row["layers"], row["steps"], row["sum"]) == (layers, steps, total)
        ]
        best = [min(chosen, key=itemgetter(kind)) for kind in ("closed_form", "signal", "exact")]
        entry = best[2]
        low, high = entry["exact_minus_equal_low"], entry["exact_minus_equal_high"]
        gain = f"{entry['exact_minus_equal']:.2g} [{low:.2g}, {high:.2g}]"
        lines.append(
            f"{layers:<8}{steps:<7}{total:<7g}{best[0]['share']:<25g}{best[1]['share']:<9g}"
            f"{entry['share']:<9g}{gain if entry['share'] != 0.5 else '–'}"
        )
    return lines


def _window_lines(windows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"{'layers':<8}{'width':<7}{'equal rates win the second step for sums':<42}"
        "least loss of all: at sum, with share"
    ]
    for entry in windows.values():
        inside = "never" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"
        lines.append(
            f"{entry['layers']:<8}{entry['width']:<7}{inside:<42}"
            f"{entry['sum_of_least_loss']:.3f}, {entry['share_of_least_loss']:.3f} "
            f"(loss {number(entry['least_loss'])})"
        )
    return lines


def _optima_lines(optima: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, entry in optima.items():
        shown = ", ".join(
            f"{kind} {mean_with_interval(entry[kind])}"
            for kind in ("alone", "equal", "free", "share")
        )
        if left_out := entry["left_out"]:
            shown += f" (without {left_out} degenerate draws, where a rate changes nothing)"
        lines.append(f"  {name}: {shown}")
    return lines


def two_step(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings = parse(TwoStepSettings, argv)
    check_folder(settings.out, settings.overwrite, settings.resume)
    from experiments.two_step.figures import draw_two_step

    torch.set_num_threads(1)
    kept = stored(settings)
    if settings.resume:
        resumed_config(settings.out, kept, (), ())
    with (
        prepare_folder(settings.out, settings.overwrite, settings.resume) as folder,
        resumable(settings.program, argv, "finished parts are"),
    ):
        # Read before anything is written: the file may turn out to be damaged.
        parts = Parts(folder / CHECKPOINT)
        write_json(folder / CONFIG, configuration(kept))
        found = _finished(_work(settings), parts)
        rows = [row for of_line in found.pop("lines").values() for row in of_line]
        write_text(folder / METRICS_FILE, _table(rows))
        summary = {
            "problem": "linear networks",
            "seed": settings.seed,
            "seconds": parts.seconds,
        }
        write_json(folder / SUMMARY, {**summary, **found})
        optima = found["one_step_optima"]
        draw_two_step(folder / FIGURE, settings.width, rows, found["published"], optima)
    print("", *_line_verdicts(rows), sep="\n")
    print("", *_window_lines(found["windows"]), sep="\n")
    print("\none exact step at its best, training loss over that before it (mean over draws):")
    print(*_optima_lines(optima), sep="\n")
    print(f"\nfigure: {folder / FIGURE}")


if __name__ == "__main__":
    sys.exit(main(two_step))
