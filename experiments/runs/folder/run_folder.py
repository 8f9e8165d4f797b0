"""Who may write a run into a folder: a new one, one that is resumed, or one that is replaced.

What a run's folder holds is in `experiments.runs.folder.folder_contents`. While a program works on
a folder it holds the folder's lock, see `experiments.runs.folder.run_lock`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.runs.folder.files import PARTIAL_SUFFIX
from experiments.runs.folder.folder_contents import (
    CHECKPOINT,
    CONFIG,
    SUMMARY,
    folder_name,
    former_folders,
    holds_run,
    lost_its_configuration,
    remove_run,
    runs_below,
)
from experiments.runs.folder.run_lock import LOCK, check_unlocked, locked


def check_folder(
    folder: Path, overwrite: bool = False, resume: bool = False, checkpoint: Path | None = None
) -> None:
    """Raise ValueError where a run may not go into a folder, and change nothing.

    checkpoint: where the run's checkpoint is, if not in the folder itself

    For the moment before long preparations; `prepare_folder` finds out whether it can be written.
    """
    for each in (folder, *runs_below(folder)):
        check_unlocked(each)
    try:
        if not folder.exists():
            if resume:
                raise ValueError(f"--out {folder} does not exist; leave out --resume to start it")
            return
        if not folder.is_dir():
            raise ValueError(f"--out {folder} is a file; give a folder that is new or empty")
        entries = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be read: {error.strerror}") from None
    if holds_run(folder):
        if resume:
            finished = (folder / SUMMARY).exists() and not former_folders(folder)
            if finished and not (checkpoint or folder / CHECKPOINT).exists():
                raise ValueError(
                    f"--out {folder} holds a finished run without its {CHECKPOINT}, which --resume "
                    "needs; give another folder, or --overwrite to start again"
                )
            return
        if not overwrite:
            raise ValueError(
                f"--out {folder} holds a run already; give another folder, --resume to continue "
                "it or --overwrite to replace it"
            )
        return
    if lost_its_configuration(folder):
        raise ValueError(
            f"--out {folder} holds a run whose {CONFIG} is missing or damaged, and without it no "
            "run is resumed or replaced; put it back, or give another folder"
        )
    if resume:
        raise ValueError(f"--out {folder} holds no run to resume; leave out --resume to start one")
    if entries:
        shown = ", ".join(entries[:3]) + (", …" if len(entries) > 3 else "")
        raise ValueError(
            f"--out {folder} holds files that do not belong to a run ({shown}); give a folder "
            "that is new or empty"
        )


def _make(folder: Path) -> list[Path]:
    """Make a folder and try to write in it; return what had to be made, outermost first."""
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        probe = folder / (CONFIG + PARTIAL_SUFFIX)
        probe.touch()
        probe.unlink()
    except OSError as error:
        _unmake(made)
        raise ValueError(f"--out {folder} cannot be written: {error.strerror}") from None
    return made


def _unmake(folders: Sequence[Path]) -> None:
    for path in reversed(folders):
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def prepare_folder(path: Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Make a folder ready for one run and keep other processes out of it meanwhile.

    A new or empty folder is taken. One that holds a run is refused, unless `overwrite` (the files
    of that run are removed, never others) or `resume` (all is left; a run that was stopped before
    its first checkpoint has no `checkpoint.pt` and starts again). Other files are refused always.
    The caller's first act is to write `config.json`: by it a folder is known as a run's. If the
    caller of a new run raises a ValueError before its first checkpoint, what was made is removed.

    Raises ValueError in one line naming --out; then nothing has been made or removed.
    """
    check_folder(path, overwrite, resume)
    if resume and (former := former_folders(path)):
        names = " ".join(folder.name for folder in former)
        raise ValueError(f"--out {path} holds a run of {names}; --resume needs the same rules")
    made = _make(path)
    try:
        with locked(path):
            if holds_run(path) and not (resume and (path / CHECKPOINT).exists()):
                remove_run(path)
            try:
                yield path
            except ValueError:
                if not (resume or (path / CHECKPOINT).exists()):
                    remove_run(path)
                raise
    except ValueError:
        # Folders that hold anything stay.
        _unmake(made)
        raise


@contextlib.contextmanager
def prepare_folders(
    path: Path,
    rules: Sequence[str],
    overwrite: bool = False,
    resume: bool = False,
    one_checkpoint: bool = False,
) -> Iterator[dict[str, Path]]:
    """Make OUT and one folder per rule in it ready, as `prepare_folder` does; {rule: folder}.

    The folder of a single rule is OUT itself. With several rules the caller writes OUT's
    `config.json` first, with the names of the folders under "folders".
    On resume a rule whose folder does not exist yet starts from the beginning.
    one_checkpoint: the rules learn together, and their checkpoint is OUT's

    Raises ValueError in one line naming --out; then nothing has been made or removed.
    """
    if len(rules) == 1:
        with prepare_folder(path, overwrite, resume) as folder:
            yield {rules[0]: folder}
        return
    folders = {rule: path / folder_name(rule) for rule in rules}
    if len(set(folders.values())) < len(rules):
        raise ValueError(f"--rule {' '.join(rules)} names a rule twice")
    check_folder(path, overwrite, resume)
    former = former_folders(path)
    if resume and set(former) != set(folders.values()):
        names = " ".join(folder.name for folder in former) or "one rule"
        raise ValueError(f"--out {path} holds a run of {names}; --resume needs the same rules")
    saved = {
        folder: (path if one_checkpoint else folder) / CHECKPOINT for folder in folders.values()
    }
    for folder in folders.values():
        begun = holds_run(folder)
        check_folder(folder, overwrite and folder in former, resume and begun, saved[folder])
    made = _make(path)
    with contextlib.ExitStack() as locks:
        try:
            locks.enter_context(locked(path))
            if holds_run(path) and not resume:
                remove_run(path)
            for folder in folders.values():
                made += _make(folder)
                locks.enter_context(locked(folder))
        except ValueError:
            locks.close()
            _unmake(made)
            raise
        for folder in folders.values():
            if holds_run(folder) and not saved[folder].exists():
                remove_run(folder)
        yield folders
