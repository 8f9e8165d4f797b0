"""What is in the folder of a run: its files by name, and which folders of rules belong to it.

    config.json  events.out.tfevents.*  metrics.csv  summary.json  figure.png
    value.pt  checkpoint.pt

Several rules give one folder OUT with a folder a rule in it; OUT itself then holds a `config.json`
that lists these folders under "folders", the common `figure.png` and `summary.json`.

Every file but the two that grow (events, metrics) is written aside and renamed, see
`experiments.runs.folder.files`. The order at a checkpoint is: flush the events, flush
`metrics.csv`, and only then rename `checkpoint.pt` into place. The growing files may thus know
more than the checkpoint and never less; resuming cuts them back to its step.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from experiments.runs.folder.files import PARTIAL_SUFFIX, read_json
from experiments.runs.folder.run_lock import locked

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


def lost_its_configuration(folder: Path) -> bool:
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


def former_folders(folder: Path) -> list[Path]:
    """Return the rule folders of an earlier run of several rules in this folder."""
    listed = (run_configuration(folder) or {}).get("folders")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return [folder / name for name in names if name == folder_name(name) and name.strip(".")]


def runs_below(folder: Path) -> list[Path]:
    """Return the folders of an earlier run's rules, the innermost first."""
    formers = [former for former in former_folders(folder) if holds_run(former)]
    return [below for former in formers for below in (*runs_below(former), former)]


def remove_run(folder: Path) -> None:
    """Remove the files of a run; ValueError, and nothing removed, where a process works on it."""
    below = runs_below(folder)
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
