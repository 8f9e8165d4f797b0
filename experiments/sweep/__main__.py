"""Study step sizes: python -m experiments.sweep --problem NAME … --rule NAME … (or --study FILE).

All configurations of a rule are compiled populations on common streams. They are run in shards
that fit the memory, on this machine or on a Ray cluster; a study that was stopped goes on with the
shards that are missing.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.checks import UsageError
from experiments.runs.command_line import main, resumable
from experiments.runs.common_settings import stored
from experiments.runs.configuration import configuration
from experiments.runs.files import read_json, write_json, write_text
from experiments.runs.report import large_number, tensorboard_line
from experiments.runs.run_folder import (
    CONFIG,
    SHARDS,
    SUMMARY,
    check_folder,
    check_same_settings,
    folder_name,
    prepare_folder,
)
from experiments.sweep import figures as sweep_figures
from experiments.sweep import tables as sweep_tables
from experiments.sweep.build import Cell, Configuration, Shard, cells, shards
from experiments.sweep.engines import make_engine
from experiments.sweep.hparams import HPARAMS, write_hparams
from experiments.sweep.memory import Estimate, configurations_a_shard, estimate, memory_to_take
from experiments.sweep.overall import overall, overall_csv, overall_markdown
from experiments.sweep.results import Report, Row, identity, panels_of, reports, rows, selected
from experiments.sweep.settings import SweepSettings, read_sweep_settings
from experiments.sweep.shard import Results
from experiments.sweep.store import Study
from experiments.sweep.winner import winner_lines

SWEEP = "sweep.csv"
# One of each for every way to select.
SELECTED, SENSITIVITY, MAP = "selected", "sensitivity", "map"
CURVES, RELATIVE, OVERALL = "curves", "relative", "overall"


def _workers(settings: SweepSettings, device: str) -> int:
    if settings.workers is not None:
        return settings.workers
    # A device is shared badly.
    return 1 if device == "cuda" else max(1, (os.cpu_count() or 1) // settings.threads)


def _stored(settings: SweepSettings, by_problem: Mapping[str, SweepSettings]) -> dict[str, Any]:
    """Return the settings as they are written down and compared on resume."""
    common = stored(settings)
    special = {
        problem: {name: value for name, value in stored(own).items() if value != common[name]}
        for problem, own in by_problem.items()
    }
    return {**common, "override": {name: value for name, value in special.items() if value}}


def _cut(
    all_cells: Sequence[Cell], settings: SweepSettings, most: Sequence[int]
) -> list[tuple[Cell, list[Shard]]]:
    return [
        (cell, shards(cell, cell.configurations, count, settings, fresh=False))
        for cell, count in zip(all_cells, most)
    ]


def _fresh(
    swept: Sequence[Row], settings: SweepSettings, most: Mapping[int, int]
) -> list[tuple[Cell, list[Shard]]]:
    """Return the shards of the selected configurations on fresh runs, those of a cell together."""
    if settings.fresh_runs == 0:
        return []
    chosen = [row for select in settings.select for row in selected(swept, select)]
    by_cell: dict[int, tuple[Cell, dict[Any, Configuration]]] = {}
    for row in chosen:
        _, several = by_cell.setdefault(id(row.cell), (row.cell, {}))
        several[identity(row)] = row.configuration
    return [
        (cell, shards(cell, list(several.values()), most[id(cell)], settings, fresh=True))
        for cell, several in by_cell.values()
    ]


def _rows(cut: Sequence[tuple[Cell, list[Shard]]], results: Mapping[str, Results]) -> list[Row]:
    return [row for cell, pieces in cut for row in rows(cell, results, pieces)]


def sweep(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings, by_problem = read_sweep_settings(argv)
    out = settings.out or Path("runs") / (settings.study.stem if settings.study else "sweep")
    check_folder(out, settings.overwrite, settings.resume)
    all_cells, notes = cells(by_problem)
    device = all_cells[0].plan.device
    workers = _workers(settings, device.type)
    engine = make_engine(settings.engine, workers, settings.address)
    memory = memory_to_take(settings.memory, device)
    needed = [estimate(cell) for cell in all_cells]
    most = [
        configurations_a_shard(cell, each, memory, workers) for cell, each in zip(all_cells, needed)
    ]
    kept = _stored(settings, by_problem)
    if settings.resume:
        check_same_settings(out, kept, settings.may_differ)
        most = read_json(out / CONFIG).get("configurations_a_shard", most)
        if len(most) != len(all_cells):
            raise UsageError(f"--out {out} holds another study; --resume goes on with the same")
    # That a step size moves nothing is no news in a grid of them.
    warned = [line for cell in all_cells for line in cell.plan.warnings]
    for line in dict.fromkeys((*notes, *warned)):
        print(f"note: {line}", file=sys.stderr)

    cut = _cut(all_cells, settings, most)
    pieces = list({shard.name: shard for _, several in cut for shard in several}.values())
    print(_announced(cut, needed, pieces, settings, workers, memory))
    config = configuration({**kept, "configurations_a_shard": most}, device)
    with (
        prepare_folder(out, settings.overwrite, settings.resume),
        resumable(settings.program, argv, "finished shards are"),
    ):
        if settings.overwrite:
            _remove_results(out)
        write_json(out / CONFIG, config)
        study = Study(out)
        swept = _rows(cut, study.run(pieces, engine, "sweep"))
        write_text(out / SWEEP, sweep_tables.sweep_csv(swept))
        by_cell = {id(cell): count for cell, count in zip(all_cells, most)}
        fresh_cut = _fresh(swept, settings, by_cell)
        fresh_pieces = [shard for _, several in fresh_cut for shard in several]
        fresh = _rows(fresh_cut, study.run(fresh_pieces, engine, "fresh runs"))
        baseline = settings.baseline or settings.rule[0]
        answers = {each: reports(swept, fresh, each, baseline) for each in settings.select}
        for select, several in answers.items():
            _write(out, select, swept, several, baseline)
        write_hparams(out, swept, answers[settings.select[0]])
        run_steps = sum(shard.run_steps for shard in (*pieces, *fresh_pieces))
        _summarise(out, settings, swept, answers, notes, study, len(pieces), run_steps)


def _announced(
    cut: Sequence[tuple[Cell, list[Shard]]],
    needed: Sequence[Estimate],
    pieces: Sequence[Shard],
    settings: SweepSettings,
    workers: int,
    memory: float,
) -> str:
    """Return what is going to be run, and in how much memory, in one line."""
    largest = max(
        each.of(len(shard.configurations) * settings.runs)
        for (_, several), each in zip(cut, needed)
        for shard in several[:1]
    )
    total = sum(len(cell.configurations) for cell, _ in cut)
    work = sum(shard.run_steps for shard in pieces)
    where = (
        f"on Ray, a shard of at most {largest / 1e9:.2g} gigabytes"
        if settings.engine == "ray"
        else f"{workers} at a time, each of at most {largest / 1e9:.2g} gigabytes, in "
        f"{memory / 1e9:.2g}"
    )
    return (
        f"{total} configurations × {settings.runs} runs, {large_number(work)} run-steps in "
        f"{len(pieces)} shards; {where}"
    )


def _remove_results(out: Path) -> None:
    """Remove what an earlier study left besides the files that every run has."""
    drawn = (f"{name}-*" for name in (SELECTED, SENSITIVITY, MAP, CURVES, RELATIVE, OVERALL))
    events = f"{HPARAMS}/*/*/events.out.tfevents.*"
    for pattern in (f"{SHARDS}/*.npz", SWEEP, *drawn, events):
        for path in out.glob(pattern):
            path.unlink()


def _write(out: Path, select: str, swept: list[Row], answers: list[Report], baseline: str) -> None:
    """Write the tables and draw the figures of one way to select."""
    write_text(out / f"{SELECTED}-{select}.csv", sweep_tables.selected_csv(answers, select))
    write_text(out / f"{SELECTED}-{select}.md", sweep_tables.markdown(answers, select, baseline))
    write_text(out / f"{SELECTED}-{select}.tex", sweep_tables.latex(answers, select, baseline))
    panels = panels_of(swept)
    if len(panels) > 1:
        settings = overall(swept, select)
        write_text(out / f"{OVERALL}-{select}.csv", overall_csv(settings))
        write_text(out / f"{OVERALL}-{select}.md", overall_markdown(settings, select))
    sweep_figures.sensitivity_figure(out / f"{SENSITIVITY}-{select}.png", swept, select)
    for panel in panels:
        inside = [row for row in swept if row.panel == panel]
        if sweep_figures.has_map(inside):
            name = folder_name(f"{MAP}-{select}-{'-'.join(panel)}")
            sweep_figures.map_figure(out / f"{name}.png", inside, select)
    best = [report.fresh for report in answers if report.of_rule]
    if best:
        error = select.partition("_")[2]
        sweep_figures.curves_figure(out / f"{CURVES}-{select}.png", best, error)
        relative = sweep_tables.relative_markdown(answers, select, baseline)
        write_text(out / f"{RELATIVE}-{select}.md", relative)
        sweep_figures.relative_figure(out / f"{RELATIVE}-{select}.png", answers, select)


def _summarise(
    out: Path,
    settings: SweepSettings,
    swept: list[Row],
    answers: dict[str, list[Report]],
    notes: list[str],
    study: Study,
    pieces: int,
    run_steps: int,
) -> None:
    """Write `summary.json` and print what a reader wants first."""
    lost = sum(int(row.diverged.sum()) for row in swept)
    summary = {
        "problems": list(settings.problem),
        "rules": list(settings.rule),
        "select": list(settings.select),
        "seed": settings.seed,
        "configurations": len(swept),
        "shards": pieces,
        "runs": sum(len(row.diverged) for row in swept),
        "diverged": lost,
        "configurations_with_divergence": sum(bool(row.diverged.any()) for row in swept),
        "configurations_all_diverged": sum(bool(row.diverged.all()) for row in swept),
        "dropped": notes,
        "seconds": study.seconds,
        "run_steps": run_steps,
        "run_steps_per_second": run_steps / study.seconds if study.seconds else None,
        "best": {
            select: [report.columns(select) for report in several if report.of_rule]
            for select, several in answers.items()
        },
    }
    write_json(out / SUMMARY, summary)
    for select in answers:
        print((out / f"{SELECTED}-{select}.md").read_text(encoding="utf-8"))
    print(
        f"{summary['configurations']} configurations, {lost} of {summary['runs']} runs diverged; "
        f"{large_number(run_steps)} run-steps in {study.seconds:.0f} s"
    )
    for line in winner_lines(swept, settings.select[0], settings):
        print(f"best:   {line}")
    print(f"figure: {out / SENSITIVITY}-{settings.select[0]}.png")
    print(f"watch:  {tensorboard_line(out / HPARAMS)}")


if __name__ == "__main__":
    sys.exit(main(sweep))
