"""The folder of a comparison: who may work in it, and what it was begun with."""

import contextlib
from collections.abc import Iterator

from experiments.compare_dqn.settings import Comparison
from experiments.runs.command_line.checks import UsageError
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import json_value, read_json, write_json
from experiments.runs.folder.folder_contents import CONFIG, holds_run
from experiments.runs.folder.run_folder import prepare_folder
from experiments.runs.folder.run_lock import LOCK, check_unlocked, locked


@contextlib.contextmanager
def comparison_folder(comparison: Comparison) -> Iterator[None]:
    """Keep other processes out of OUT; UsageError where it holds anything but this comparison."""
    settings, out = comparison.settings, comparison.settings.out
    stored = json_value(comparison.stored())
    check_unlocked(out)
    try:
        others = out.is_dir() and any(entry.name != LOCK for entry in out.iterdir())
    except OSError as error:
        raise UsageError(f"--out {out} cannot be read: {error.strerror}") from None
    if not settings.resume:
        if others:
            raise UsageError(f"--out {out} is not empty; give another folder, or --resume")
        with prepare_folder(out):
            write_json(out / CONFIG, configuration({"comparison": stored}))
            yield
        return
    if not holds_run(out):
        raise UsageError(f"--out {out} holds no comparison to resume")
    before = read_json(out / CONFIG).get("comparison", {})
    for name, value in stored.items():
        if before.get(name, value) != value:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} {value} differs from the {before.get(name)} of the comparison in {out}"
            )
    with locked(out):
        yield
