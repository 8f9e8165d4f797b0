"""The work of `experiments.two_step`, cut into parts that are computed one after another."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from experiments.runs.recording.finished_parts import OnProgress
from experiments.two_step import optima, study
from experiments.two_step.settings import TwoStepSettings

# Widths at which the window of equal rates is looked for, in addition to --width.
WIDTHS = (8, 16, 32, 64, 128, 256, 1024)


class StudyPart(NamedTuple):
    """A part of the work: its key among those of its kind, and what computes its value."""

    kind: str
    key: Any
    compute: Callable[[], Any]
    size: int = 1

    @property
    def name(self) -> str:
        """Return its name, which no other part has."""
        return f"{self.kind} {self.key}"


def study_parts(settings: TwoStepSettings) -> list[StudyPart]:
    """Return what there is to compute."""
    width, seed = settings.width, settings.seed
    work: dict[str, dict[Any, Callable[[], Any]]] = {
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
            name: partial(
                optima.one_step_optima, name, settings.optima_width, settings.optima, seed
            )
            for name in optima.ONE_STEPS
        },
    }
    return [
        StudyPart(kind, key, compute)
        for kind, several in work.items()
        for key, compute in several.items()
    ]


def in_turn(parts: Sequence[StudyPart], on_progress: OnProgress) -> Iterator[tuple[StudyPart, Any]]:
    """Compute parts one after another."""
    for part in parts:
        yield part, part.compute()
        on_progress(part.size)
