"""A study in parts, each by a job of its own, such as those of a Slurm array: --shard and --merge.

Part I of N runs every N-th shard of the study in a folder of its own, wherever it is. The folders
are merged into one study, which then selects, runs the fresh runs and reports.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.runs.command_line.checks import UsageError
from experiments.runs.folder.folder_contents import run_configuration
from experiments.runs.recording.finished_parts import FinishedParts
from experiments.sweep.running.shard import Shard
from experiments.sweep.settings.job_part import JobPart

# Under which a folder's configuration says which part it holds.
PART_OF_STUDY = "part"


def configurations_of_parts(sizes: Sequence[int], fitting: Sequence[int], count: int) -> list[int]:
    """Return the most configurations of a shard of each cell, alike on every machine.

    sizes:   configurations of each cell
    fitting: how many of them fit into the memory of a worker here

    Raises UsageError where a shard of such a size does not fit.
    """
    wanted = [-(-size // count) for size in sizes]
    for most, fits in zip(wanted, fitting):
        if most > fits:
            raise UsageError(
                f"--shard …/{count}: {most} configurations make a shard, and {fits} fit into the "
                "memory of a worker: give more parts, fewer --workers or more --memory"
            )
    return wanted


def parts_folders(folders: Sequence[Path]) -> dict[JobPart, Path]:
    """Return the folders of all parts of one study; UsageError where one is missing or another's.

    That their settings agree is told by the study that they are merged into.
    """
    found: dict[JobPart, Path] = {}
    for folder in folders:
        config = run_configuration(folder)
        if config is None or PART_OF_STUDY not in config:
            raise UsageError(f"--merge {folder} holds no part of a study as written by --shard")
        found[JobPart(*config[PART_OF_STUDY])] = folder
    counts = {part.jobs for part in found}
    if len(counts) > 1:
        raise UsageError(
            f"--merge: the folders hold parts of {' and of '.join(map(str, sorted(counts)))}: give "
            "those of one study"
        )
    (count,) = counts
    missing = sorted({*range(1, count + 1)} - {part.number for part in found})
    if missing:
        raise UsageError(
            f"--merge: of {count} parts number {', '.join(map(str, missing))} "
            f"{'is' if len(missing) == 1 else 'are'} not among the folders"
        )
    return found


def check_finished(folders: Mapping[JobPart, Path], pieces: Sequence[Shard]) -> None:
    """Raise UsageError where a part is not finished; pieces: the shards of the study."""
    for part, folder in folders.items():
        own, there = part.of(pieces), FinishedParts(folder)
        done = sum(there.path(shard).exists() for shard in own)
        if done < len(own):
            raise UsageError(
                f"--merge {folder}: {done} of its {len(own)} shards are finished; run part "
                f"{part.number}/{part.jobs} to its end first"
            )
