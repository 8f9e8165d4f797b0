"""A run is resumed with the settings that it was started with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.folder.files import json_value, read_json
from experiments.runs.folder.folder_contents import CONFIG, run_configuration

# Ends the name of a checksum of the files that a setting names.
CHECKSUM = "_sha256"


def check_same_settings(
    path: Path, settings: Mapping[str, Any], may_differ: Sequence[str], flag: str = "--resume"
) -> None:
    """Raise ValueError where a run is resumed with settings other than those it was started with.

    `settings` are compared, as JSON would hold them, with `config.json` in the folder `path`.
    flag: that goes on with the run
    """
    config = run_configuration(path) or {}
    for name, value in settings.items():
        if name in may_differ or name not in config:
            continue
        if json_value(value) != config[name]:
            if name.endswith(CHECKSUM):
                source = name.removesuffix(CHECKSUM)
                named_so = json_value(settings.get(source))
                given = "" if named_so is None else f" {_shown(named_so)}"
                raise ValueError(
                    f"--{source}{given} is not what the run in {path} was started with: its "
                    "contents have changed"
                )
            of_setting = "--" + name.strip("_").replace("_", "-")
            free = " and ".join("--" + other.replace("_", "-") for other in may_differ)
            allowed = f"change {free} only" if free else "not change it"
            given, had = _shown(json_value(value)), _shown(config[name])
            raise ValueError(
                f"{of_setting} {given} differs from the {had} of the run in {path}; "
                f"{flag} may {allowed}"
            )


def resumed_config(
    out: Path,
    settings: Mapping[str, Any],
    also: Sequence[str],
    may_differ: Sequence[str],
) -> dict[str, Any]:
    """Check a run that is to be resumed against its configuration, and return that.

    settings: as in `check_same_settings`; also: what else the configuration has
    Raises ValueError in one line for another program's run, other settings and fewer "steps".
    """
    config: dict[str, Any] = read_json(out / CONFIG)
    if missing := [name for name in (*settings, *also) if name not in config]:
        raise ValueError(
            f"--out {out} holds no run of this program to resume: its {CONFIG} has no {missing[0]}"
        )
    check_same_settings(out, settings, may_differ)
    if "steps" in settings and settings["steps"] < config["steps"]:
        raise ValueError(
            f"--steps {settings['steps']} is less than the {config['steps']} of the run in {out}; "
            "--resume may only make it longer"
        )
    return config


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
