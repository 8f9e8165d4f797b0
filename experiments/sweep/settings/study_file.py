"""The settings of a study from a command line, a TOML file, or a part of the study."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.logs.reading import log_name
from experiments.runs.command_line.checks import UsageError, suggestion
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.settings import (
    check_setting,
    plain_value,
    setting_fields,
    settings_from,
)
from experiments.runs.folder.folder_contents import run_configuration
from experiments.sweep.settings.sweep_settings import SweepSettings

# The table of a study file that changes settings for one problem.
OVERRIDE = "override"
# What one problem of a study may not have otherwise than the others.
COMMON_TO_PROBLEMS = (
    *("study", "problem", "rule", "runs", "fresh_runs", "seed", "select", "baseline", "engine"),
    *("address", "workers", "threads", "memory", "device", "out", "resume", "overwrite"),
    *("data", "columns", "cumulant", "held_out_fraction", "shard", "merge"),
    "controls",
)


def _line_of(text: str, key: str, table: str | None = None) -> int:
    """Return the line on which a study file, or a table of it, gives a key or opens a table."""
    name = re.escape(key)
    pattern = re.compile(rf"""^\s*(\[.*)?["']?{name}["']?\s*(\]|=|\.)""")
    begin = _line_of(text, table) if table is not None else 0
    lines = enumerate(text.splitlines()[begin:], begin + 1)
    return next((number for number, line in lines if pattern.match(line)), 0)


def _values(
    path: Path, text: str, table: Mapping[str, Any], problem: str | None = None
) -> dict[str, Any]:
    """Return {field: value} of a table; UsageError naming the line of what cannot be used.

    problem: the one that the table is for, if it is not for all
    """
    known = setting_fields(SweepSettings)
    values = {}
    for key, plain in table.items():
        name = key.replace("-", "_")
        where = f"{path}, line {_line_of(text, key, problem)}"
        if name not in known or name == "study":
            raise UsageError(f"{where}: unknown key {key!r}{suggestion(name, known)}")
        if problem is not None and name in COMMON_TO_PROBLEMS:
            raise UsageError(f"{where}: {key!r} is common to all problems and cannot be overridden")
        try:
            values[name] = plain_value(known[name], plain)
            check_setting(known[name], values[name])
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    return values


def read_study(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read a study file: {field: value} and, for single problems, {problem: {field: value}}.

    Raises UsageError in one line naming the file and the line.
    """
    try:
        # Some editors begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--study {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--study {path} is not TOML: {error}") from None
    tables = content.pop(OVERRIDE, {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise UsageError(f'--study {path}: write overrides as a table [{OVERRIDE}."PROBLEM"]')
    common = _values(path, text, content)
    special = {name: _values(path, text, table, name) for name, table in tables.items()}
    unknown = [name for name in special if name not in common.get("problem", ())]
    if unknown:
        raise UsageError(
            f"{path}, line {_line_of(text, unknown[0])}: {OVERRIDE} for {unknown[0]!r}, which is "
            "not one of its problems"
        )
    return common, special


def _settings_of_part(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return {field: value} of the study that a folder is a part of, and those of single problems.

    As `read_study` does of a file.
    """
    config = run_configuration(folder)
    if config is None:
        raise UsageError(f"--merge {folder} holds no part of a study as written by --shard")
    special = config.get(OVERRIDE, {})
    return _plain_values(config), {
        problem: _plain_values(values) for problem, values in special.items()
    }


def _plain_values(plain: Mapping[str, Any]) -> dict[str, Any]:
    known = setting_fields(SweepSettings)
    return {
        name: plain_value(known[name], value)
        for name, value in plain.items()
        if name in known and value is not None
    }


def read_sweep_settings(argv: Sequence[str]) -> tuple[SweepSettings, dict[str, SweepSettings]]:
    """Return the settings of a command line and its study file, and those of each problem.

    Raises UsageError in one line for whatever cannot be used.
    """
    given = flags_given([SweepSettings], argv)
    common, special = read_study(given["study"]) if "study" in given else ({}, {})
    if given.get("merge"):
        common, special = _settings_of_part(given["merge"][0])
    settings = settings_from(SweepSettings, common, given)
    names = (log_name(settings.data),) if settings.data else settings.problem or ()
    return settings, {
        name: settings_from(SweepSettings, common, special.get(name, {}), given) for name in names
    }
