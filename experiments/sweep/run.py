"""A study's work: its configurations in shards that fit the memory, and the selected ones again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments.runs.command_line.checks import UsageError
from experiments.runs.recording.finished_parts import Engine, FinishedParts
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.report import large_number
from experiments.sweep.results.rows import Row, identity, rows, selected
from experiments.sweep.running.build import Cell, cells
from experiments.sweep.running.configurations import Configuration
from experiments.sweep.running.engines import make_engine
from experiments.sweep.running.job_array import configurations_of_parts
from experiments.sweep.running.memory import (
    Estimate,
    configurations_a_shard,
    estimate,
    memory_to_take,
)
from experiments.sweep.running.shard import Shard, shards
from experiments.sweep.settings.job_part import JobPart, job_part
from experiments.sweep.settings.sweep_settings import SweepSettings
from neural_tdc.cores import available_cores

# Under which a folder's configuration holds the largest numbers of configurations per shard.
SIZES = "configurations_a_shard"


@dataclass
class Study:
    """A study: what it runs and how, and what came out.

    notes:   lines that say which configurations are left out
    needed:  the memory of each cell
    most:    the largest number of configurations per shard, of each cell
    memory:  bytes of the device for all workers together
    swept:   rows of all configurations;  fresh: rows of the selected ones on seeds of their own
    clock:   of the program
    seconds: the time spent on shards, over every resumption
    computed: how many of the shards were computed now
    """

    settings: SweepSettings
    cells: list[Cell]
    notes: list[str]
    engine: Engine[Shard]
    workers: int
    memory: float
    needed: list[Estimate]
    most: list[int]
    swept: list[Row] = field(default_factory=list)
    fresh: list[Row] = field(default_factory=list)
    run_steps: int = 0
    clock: PhaseClock = field(default_factory=PhaseClock)
    seconds: float = 0.0
    computed: int = 0

    @property
    def device(self) -> torch.device:
        """Return where it computes."""
        return self.cells[0].plan.device

    def cut(self) -> list[tuple[Cell, list[Shard]]]:
        """Return the shards of every cell."""
        return [
            (cell, shards(cell, cell.configurations, count, self.settings, fresh=False))
            for cell, count in zip(self.cells, self.most)
        ]

    def distinct_shards(self) -> list[Shard]:
        """Return the shards to run: cells that learn the same share theirs."""
        return list({shard.name: shard for _, several in self.cut() for shard in several}.values())

    def announcement(self) -> str:
        """Return what is going to be run, and in how much memory, in one line."""
        settings, pieces = self.settings, self.distinct_shards()
        largest = max(
            each.of(len(several[0].configurations) * settings.runs)
            for (_, several), each in zip(self.cut(), self.needed)
        )
        total = sum(len(cell.configurations) for cell in self.cells)
        work = sum(shard.size for shard in pieces)
        where = (
            f"on Ray, a shard of at most {largest / 1e9:.2g} gigabytes"
            if settings.engine == "ray"
            else f"{self.workers} at a time, each of at most {largest / 1e9:.2g} gigabytes, in "
            f"{self.memory / 1e9:.2g}"
        )
        return (
            f"{total} configurations × {settings.runs} runs, {large_number(work)} run-steps in "
            f"{len(pieces)} shards; {where}"
        )

    def run_part(self, out: Path, part: JobPart) -> int:
        """Run the shards of a part that are missing in its folder; return how many it has."""
        self.clock.switch("write")
        pieces = part.of(self.distinct_shards())
        with self.clock.phase("learn"):
            FinishedParts(out).complete(pieces, self.engine, f"part {part.number}", "run-steps")
        return len(pieces)

    def run(self, out: Path) -> None:
        """Run the shards that are missing in a folder, then the selected on fresh runs."""
        self.clock.switch("write")
        parts = FinishedParts(out)
        self.swept = self._rows(parts, self.cut(), "sweep")
        self.fresh = self._rows(parts, self._fresh_cut(), "fresh runs")
        self.seconds, self.computed = parts.seconds, parts.computed

    def _rows(
        self, parts: FinishedParts, cut: Sequence[tuple[Cell, list[Shard]]], label: str
    ) -> list[Row]:
        pieces = [shard for _, several in cut for shard in several]
        # What shards do is one phase here: several run at the same time, on any machine.
        with self.clock.phase("learn"):
            results = parts.complete(pieces, self.engine, label, "run-steps")
        self.run_steps += sum({shard.name: shard.size for shard in pieces}.values())
        return [row for cell, several in cut for row in rows(cell, results, several)]

    def _fresh_cut(self) -> list[tuple[Cell, list[Shard]]]:
        """Return the shards of the selected configurations, those of a cell together."""
        if self.settings.fresh_runs == 0:
            return []
        most = {id(cell): count for cell, count in zip(self.cells, self.most)}
        chosen = [
            row
            for select in self.settings.select
            for by in ("ratio", "auxiliary_ratio")
            for row in selected(self.swept, select, by)
        ]
        by_cell: dict[int, tuple[Cell, dict[Any, Configuration]]] = {}
        for row in chosen:
            _, several = by_cell.setdefault(id(row.cell), (row.cell, {}))
            several[identity(row)] = row.configuration
        return [
            (cell, shards(cell, list(several.values()), most[id(cell)], self.settings, fresh=True))
            for cell, several in by_cell.values()
        ]


def make_study(
    settings: SweepSettings, by_problem: Mapping[str, SweepSettings], most: list[int] | None
) -> Study:
    """Make a study of settings and those of each problem; UsageError for what cannot be used.

    most: of a study that is resumed or merged, its largest numbers of configurations per shard
    """
    all_cells, notes = cells(by_problem)
    device = all_cells[0].plan.device
    # One process at a time uses a GPU.
    default = 1 if device.type == "cuda" else max(1, available_cores() // settings.threads)
    workers = settings.workers or default
    engine = make_engine(settings.engine, workers, settings.address)
    memory = memory_to_take(settings.memory, device, here=settings.engine != "ray")
    needed = [estimate(cell) for cell in all_cells]
    fitting = [
        configurations_a_shard(cell, each, memory, workers) for cell, each in zip(all_cells, needed)
    ]
    if most is not None and len(most) != len(all_cells):
        raise UsageError(f"--out {settings.out} holds another study; --resume needs the same study")
    if settings.shard is not None and most is None:
        sizes = [len(cell.configurations) for cell in all_cells]
        most = configurations_of_parts(sizes, fitting, job_part(settings.shard).jobs)
    return Study(settings, all_cells, notes, engine, workers, memory, needed, most or fitting)
