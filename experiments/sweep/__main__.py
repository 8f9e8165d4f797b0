"""Study step sizes: python -m experiments.sweep --problem NAME … --rule NAME … (or --study FILE).

All configurations of a rule are compiled populations on common streams. They are run in shards
that fit the memory, on this machine or on a Ray cluster; a study that was stopped goes on with the
shards that are missing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main, resumable
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.run_folder import CONFIG, check_folder, prepare_folder
from experiments.runs.folder.same_settings import check_same_settings
from experiments.sweep.report import remove_report, write_report
from experiments.sweep.run import make_study
from experiments.sweep.settings import read_sweep_settings
from experiments.sweep.stored_settings import stored_settings


def sweep(argv: Sequence[str]) -> None:
    """Run the program; see the module's description."""
    settings, by_problem = read_sweep_settings(argv)
    out = settings.out or Path("runs") / (settings.study.stem if settings.study else "sweep")
    check_folder(out, settings.overwrite, settings.resume)
    kept, most = stored_settings(settings, by_problem), None
    if settings.resume:
        check_same_settings(out, kept, settings.may_differ)
        most = read_json(out / CONFIG).get("configurations_a_shard")
    study = make_study(settings, by_problem, most)
    # That a step size moves nothing is no news in a grid of them.
    warned = [line for cell in study.cells for line in cell.plan.warnings]
    for line in dict.fromkeys((*study.notes, *warned)):
        print(f"note: {line}", file=sys.stderr)
    print(study.announcement())
    config = configuration({**kept, "configurations_a_shard": study.most}, study.device)
    with (
        prepare_folder(out, settings.overwrite, settings.resume),
        resumable(settings.program, argv, out, "finished shards are"),
    ):
        if settings.overwrite:
            remove_report(out)
        write_json(out / CONFIG, config)
        study.run(out)
        said = write_report(out, study)
    print(said)


if __name__ == "__main__":
    leave(main(sweep))
