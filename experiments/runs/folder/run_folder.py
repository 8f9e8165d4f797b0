"""A run is a folder: who may write in it, how files get there, and what is written about the run.

    config.json  events.out.tfevents.*  metrics.csv  summary.json  figure.png
    value.pt  checkpoint.pt

Several rules give one folder OUT with a folder a rule in it; OUT itself then holds a `config.json`
that lists these folders under "folders", the common `figure.png` and `summary.json`.

Every file but the two that grow (events, metrics) is written aside and renamed, see
`experiments.runs.folder.files`. The order at a checkpoint is: flush the events, flush
`metrics.csv`, and only then rename `checkpoint.pt` into place. The growing files may thus know
more than the checkpoint and never less; resuming cuts them back to its step.

While a program works on a folder it holds the folder's lock, see
`experiments.runs.folder.run_lock`.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.folder.files import (
    PARTIAL_SUFFIX,
    read_json,
)
from experiments.runs.folder.run_lock import LOCK, check_unlocked, locked

CONFIG = "config.json"
EVENTS = "events.out.tfevents.*"
METRICS_FILE = "metrics.csv"
SUMMARY = "summary.json"
FIGURE = "figure.png"
VALUES = "values.png"
# Of figures: the first is always written, one of the others with --vector.
FORMATS = (".png", ".pdf", ".svg")
CHECKPOINT = "checkpoint.pt"
SCORES = "scores.json"
VALUE = "value.pt"
# Bytes: file systems allow 255, and names of files are made from it.
LONGEST_NAME = 150
RUN_FILES = (
    CONFIG,
    EVENTS,
    METRICS_FILE,
    SUMMARY,
    *(str(Path(name).with_suffix(each)) for name in (FIGURE, VALUES) for each in FORMATS),
    VALUE,
    SCORES,
    CHECKPOINT,
)
# The folder of finished parts, see `experiments.runs.recording.finished_parts`.
PARTS = "parts"


def run_configuration(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of the run in a folder; None where there is no run of ours."""
    try:
        config = read_json(folder / CONFIG)
    except (ValueError, OSError):
        return None
    versions = config.get("versions") if isinstance(config, dict) else None
    return config if isinstance(versions, dict) and "neural_tdc" in versions else None


def holds_run(folder: Path) -> bool:
    """Return whether a folder's `config.json` was written by `configuration`."""
    return run_configuration(folder) is not None


def _lost_its_configuration(folder: Path) -> bool:
    """Return whether the other files of a run, of one rule or of several, are in a folder."""
    several = (folder / SUMMARY).is_file() and any(folder.glob(f"*/{METRICS_FILE}"))
    return several or any((folder / name).is_file() for name in (METRICS_FILE, CHECKPOINT))


def folder_name(rule: str) -> str:
    """Return the name of a rule's folder; `module:function` may not keep its colon there.

    A long name is cut and ends in a digest of the whole.
    """
    name = rule.replace(":", ".").replace("/", ".").replace("\\", ".")
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return f"{encoded[: LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"


def _files_of_run(folder: Path) -> list[Path]:
    names = (*RUN_FILES, f"{PARTS}/*.pt")
    patterns = [*names, *(name + PARTIAL_SUFFIX for name in names)]
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _former_folders(folder: Path) -> list[Path]:
    """Return the rule folders of an earlier run of several rules in this folder."""
    listed = (run_configuration(folder) or {}).get("folders")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return [folder / name for name in names if name == folder_name(name) and name.strip(".")]


def _runs_below(folder: Path) -> list[Path]:
    """Return the folders of an earlier run's rules, the innermost first."""
    formers = [former for former in _former_folders(folder) if holds_run(former)]
    return [below for former in formers for below in (*_runs_below(former), former)]


def _remove_run(folder: Path) -> None:
    """Remove the files of a run; ValueError, and nothing removed, where a process works on it."""
    below = _runs_below(folder)
    with contextlib.ExitStack() as locks:
        for each in below:
            locks.enter_context(locked(each))
        # The configuration goes last: an interrupted removal still shows whose the rest is.
        for each in (*below, folder):
            for path in sorted(_files_of_run(each), key=lambda path: path.name == CONFIG):
                path.unlink()
    for each in (folder / PARTS, *below):
        with contextlib.suppress(OSError):
            each.rmdir()


def check_folder(
    folder: Path, overwrite: bool = False, resume: bool = False, checkpoint: Path | None = None
) -> None:
    """Raise ValueError where a run may not go into a folder, and change nothing.

    checkpoint: where the run's checkpoint is, if not in the folder itself

    For the moment before long preparations; `prepare_folder` finds out whether it can be written.
    """
    for each in (folder, *_runs_below(folder)):
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
            finished = (folder / SUMMARY).exists() and not _former_folders(folder)
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
    if _lost_its_configuration(folder):
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
    if resume and (former := _former_folders(path)):
        names = " ".join(folder.name for folder in former)
        raise ValueError(f"--out {path} holds a run of {names}; --resume needs the same rules")
    made = _make(path)
    try:
        with locked(path):
            if holds_run(path) and not (resume and (path / CHECKPOINT).exists()):
                _remove_run(path)
            try:
                yield path
            except ValueError:
                if not (resume or (path / CHECKPOINT).exists()):
                    _remove_run(path)
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
    former = _former_folders(path)
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
                _remove_run(path)
            for folder in folders.values():
                made += _make(folder)
                locks.enter_context(locked(folder))
        except ValueError:
            locks.close()
            _unmake(made)
            raise
        for folder in folders.values():
            if holds_run(folder) and not saved[folder].exists():
                _remove_run(folder)
        yield folders
