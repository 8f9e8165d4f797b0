"""Work in independent parts: finished parts are kept in a run's folder and not computed again.

    parts = FinishedParts(folder)
    values = parts.complete(wanted, in_turn(compute), "sweep")

Each finished part is a file in the folder `parts`; `checkpoint.pt` holds the time spent. Both are
written whole or not at all, and a damaged file is noticed by its checksum. A stop loses only the
parts at work. Runs that are measured while they work use
`experiments.runs.recording.recorder` instead.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.utils._pytree import tree_map

from experiments.runs.folder.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.folder.files import read_json
from experiments.runs.folder.folder_contents import CHECKPOINT, PARTS, folder_name
from experiments.runs.results.phases import rounded
from experiments.runs.results.progress import Progress


class WorkPart(Protocol):
    """A part of the work: its name, which no other part has, and its size in units of work."""

    @property
    def name(self) -> str:
        """Return what tells it from all other parts, also from those of other settings."""

    @property
    def size(self) -> int:
        """Return the units of work in it."""


AnyPart = TypeVar("AnyPart", bound=WorkPart)
OnProgress = Callable[[int], None]
# Takes parts and a function to be called with the units of work done since its last call; yields
# each part with its value as soon as it is there, in any order.
Engine = Callable[[Sequence[AnyPart], OnProgress], Iterator[tuple[AnyPart, Any]]]


def seconds_to_write(path: Path, seconds: Mapping[str, float], computed: int) -> dict[str, float]:
    """Return the seconds of a summary; those that it has already where nothing was computed.

    A finished run that is resumed is told as it was.
    """
    if not computed:
        with contextlib.suppress(ValueError, OSError, LookupError, AttributeError, TypeError):
            return {phase: float(spent) for phase, spent in read_json(path)["seconds"].items()}
    return rounded(seconds)


class FinishedParts:
    """The finished parts of a run, in its folder.

    seconds: the time spent on all of them, over every resumption
    computed: how many of them `complete` had to compute

    Values are arrays, None, bool, int, float, str, and dicts, lists and tuples of these.
    Raises ValueError in one line for a checkpoint that is damaged or another program's; nothing is
    written before `complete`.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.seconds, self.computed = 0.0, 0
        if (out / CHECKPOINT).exists():
            saved = load_checkpoint(out / CHECKPOINT)
            if saved.keys() != {"seconds", "parts"}:
                raise ValueError(
                    f"{out / CHECKPOINT} belongs to another program's run, or to an older version"
                )
            self.seconds = saved["seconds"]

    def path(self, part: WorkPart) -> Path:
        """Return the file of a part, which is there where the part is finished."""
        return self._out / PARTS / f"{folder_name(part.name)}.pt"

    def value(self, part: WorkPart) -> Any:
        """Return a finished part's value; ValueError in one line where its file is damaged."""
        try:
            value = load_checkpoint(self.path(part))["value"]
        except ValueError as error:
            raise ValueError(f"{error}; remove it, and --resume computes it again") from None
        return tree_map(lambda x: x.numpy() if isinstance(x, torch.Tensor) else x, value)

    def _keep(self, part: WorkPart, value: Any) -> None:
        stored = tree_map(lambda x: torch.tensor(x) if isinstance(x, np.ndarray) else x, value)
        save_checkpoint(self.path(part), {"value": stored})
        # After the part: what it counts is there.
        count = sum(1 for _ in (self._out / PARTS).glob("*.pt"))
        save_checkpoint(self._out / CHECKPOINT, {"seconds": self.seconds, "parts": count})

    def adopt(self, other: "FinishedParts", wanted: Sequence[WorkPart]) -> None:
        """Take over finished parts of another folder, with the time spent on them all."""
        (self._out / PARTS).mkdir(exist_ok=True)
        missing = [part for part in wanted if not self.path(part).exists()]
        self.seconds += other.seconds if missing else 0.0
        for part in missing:
            self._keep(part, other.value(part))

    def complete(
        self, wanted: Sequence[AnyPart], engine: Engine[AnyPart], label: str, unit: str
    ) -> dict[str, Any]:
        """Compute the parts that are missing and return the values of all, {name: value}.

        label, unit: of the progress, such as "sweep" and "run-steps"
        """
        (self._out / PARTS).mkdir(exist_ok=True)
        by_name = {part.name: part for part in wanted}
        missing = [part for part in by_name.values() if not self.path(part).exists()]
        self.computed += len(missing)
        # The longest first, so that none is left alone at the end.
        missing.sort(key=lambda part: -part.size)
        total = sum(part.size for part in by_name.values())
        done = total - sum(part.size for part in missing)
        begun, before = time.perf_counter(), self.seconds
        with Progress(label, total, 1, done, unit=unit) as progress:

            def on_progress(more: int) -> None:
                nonlocal done
                done += more
                progress.update(min(done, total))

            for part, value in engine(missing, on_progress):
                self.seconds = before + time.perf_counter() - begun
                self._keep(part, value)
        return {name: self.value(part) for name, part in by_name.items()}
