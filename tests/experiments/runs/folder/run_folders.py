"""Folders of runs that tests make and look into."""

import pytest

from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.folder.run_folder import (
    prepare_folder,
    prepare_folders,
)

FILES = ("events.out.tfevents.1.a", "metrics.csv", "summary.json", "figure.png", "checkpoint.pt")


def prepared(*arguments, **named):
    """Return a folder that was made ready, after its lock is given up."""
    with prepare_folder(*arguments, **named) as folder:
        return folder


def all_prepared(*arguments, **named):
    """Return folders that were made ready, after their locks are given up."""
    with prepare_folders(*arguments, **named) as folders:
        return folders


def make_run(folder, files=FILES, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", configuration({"seed": 3, **settings}))
    for name in files:
        (folder / name).write_text(name)
    return folder


def make_several(folder, rules):
    make_run(folder, ("figure.png", "summary.json"), folders=rules)
    for rule in rules:
        make_run(folder / rule, rule=[rule])
    return folder


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(action, *said):
    with pytest.raises(ValueError) as caught:
        action()
    message = str(caught.value)
    assert message.startswith("--out ")
    assert "\n" not in message
    for part in said:
        assert part in message
    return message
