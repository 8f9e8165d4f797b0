"""Study step sizes: python -m experiments.sweep --problem NAME … --rule NAME … (or --study FILE).

All configurations of a rule are compiled populations on common streams. They are run in shards
that fit the memory, on this machine or on a Ray cluster; a stopped study continues with the missing
shards.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, resumable
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.folder_contents import CONFIG, holds_run
from experiments.runs.folder.run_folder import check_folder, prepare_folder
from experiments.runs.folder.same_settings import check_same_settings
from experiments.runs.recording.finished_parts import FinishedParts
from experiments.sweep.report import remove_report, write_report
from experiments.sweep.run import SIZES, Study, make_study
from experiments.sweep.running.job_array import PART_OF_STUDY, check_finished, parts_folders
from experiments.sweep.settings.job_part import JobPart, job_part
from experiments.sweep.settings.stored_settings import stored_settings
from experiments.sweep.settings.study_file import read_sweep_settings
from experiments.sweep.settings.sweep_settings import SweepSettings


def sweep(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings, by_problem = read_sweep_settings(argv)
    out = settings.out or Path("runs") / (settings.study.stem if settings.study else "sweep")
    if settings.shard is not None:
        _run_part(settings, by_problem, argv, out, job_part(settings.shard))
        return
    folders = parts_folders(settings.merge) if settings.merge else {}
    check_folder(out, settings.overwrite, settings.resume)
    kept, most = stored_settings(settings, by_problem), None
    for folder in folders.values():
        check_same_settings(folder, kept, settings.may_differ, "--merge")
        most = read_json(folder / CONFIG)[SIZES]
    if settings.resume:
        check_same_settings(out, kept, settings.may_differ)
        most = read_json(out / CONFIG).get(SIZES)
    study = _announced(settings, by_problem, out, most)
    config = configuration({**kept, SIZES: study.most}, study.device)
    if folders:
        check_finished(folders, study.distinct_shards())
    with (
        prepare_folder(out, settings.overwrite, settings.resume),
        resumable(settings.program, argv, out, "finished shards are"),
    ):
        if settings.overwrite:
            remove_report(out)
        write_json(out / CONFIG, config)
        for part, folder in folders.items():
            FinishedParts(out).adopt(FinishedParts(folder), part.of(study.distinct_shards()))
        study.run(out)
        said = write_report(out, study)
    print(said)


def _announced(
    settings: SweepSettings,
    by_problem: Mapping[str, SweepSettings],
    out: Path,
    most: list[int] | None,
) -> Study:
    """Make the study and print what is to be known of it beforehand."""
    study = make_study(settings, by_problem, most)
    # That a step size moves nothing is no news in a grid of them.
    warned = [line for cell in study.cells for line in cell.plan.warnings]
    for line in dict.fromkeys((*study.notes, *warned)):
        print(f"note: {line}", file=sys.stderr)
    print(study.announcement())
    return study


def _run_part(
    settings: SweepSettings,
    by_problem: Mapping[str, SweepSettings],
    argv: Sequence[str],
    out: Path,
    part: JobPart,
) -> None:
    """Run one of several parts of a study in a folder of its own, or what is missing of it."""
    folder = part.folder(out)
    # A job that a scheduler starts again continues.
    resume = not settings.overwrite and (settings.resume or holds_run(folder))
    check_folder(folder, settings.overwrite, resume)
    kept = stored_settings(settings, by_problem)
    if resume:
        check_same_settings(folder, kept, settings.may_differ)
    study = _announced(settings, by_problem, folder, None)
    config = configuration({**kept, SIZES: study.most, PART_OF_STUDY: [*part]}, study.device)
    with (
        prepare_folder(folder, settings.overwrite, resume),
        resumable(settings.program, argv, folder, "finished shards are"),
    ):
        write_json(folder / CONFIG, config)
        count = study.run_part(folder, part)
    print(
        f"part {part.number} of {part.jobs}: {count} shards are finished in {folder}; with all "
        f"parts: {settings.program} --merge {out}-*-of-{part.jobs} --out {out}"
    )


if __name__ == "__main__":
    leave(main(sweep))
