"""The command line of a step-size study, and the TOML files that say the same."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.evaluate_policy.learning_settings import LearningSettings
from experiments.runs.checks import UsageError, suggestion
from experiments.runs.command_line import completed, parse, value_of

PROGRAM = "python -m experiments.sweep"
# The table of a study file that changes settings for one problem.
OVERRIDE = "override"
# What one problem of a study may not have otherwise than the others.
COMMON = (
    "study",
    "problem",
    "rule",
    "runs",
    "fresh_runs",
    "seed",
    "select",
    "baseline",
    "engine",
    "address",
    "workers",
    "threads",
    "memory",
    "device",
    "out",
    "resume",
    "overwrite",
)


@dataclass(kw_only=True)
class Settings(LearningSettings):
    """Study step sizes: problems × rules × body steps × ratios × runs, as compiled populations.

    Every configuration learns from the same streams and is judged by the same truth. The best step
    of each rule and ratio is selected on the runs of the sweep and reported on fresh ones.
    A grid is a list of numbers (0.01), powers (2^-3) and ranges of powers (2^-10:2^0).
    Problems and rules: see python -m experiments.evaluate_policy --help.
    """

    study: Path | None = None
    """A TOML file with these settings; what is given on the command line comes before it. A table
    [override."PROBLEM"] in it changes settings for one problem."""
    problem: tuple[str, ...] = ()
    """One or several problems, a panel each."""
    rule: tuple[str, ...] = ()
    """One or several learning rules."""
    sampling: tuple[str, ...] = ("markov",)
    """markov, iid, replay: one or several, a panel each."""
    body_steps: tuple[str, ...] = ("2^-10:2^0",)
    """Grid of body steps α."""
    ratios: tuple[str, ...] = ("1", "3", "10", "30", "100", "inf")
    """Grid of ratios β/α of head step to body step; inf: the head is solved by LSTD."""
    head_steps: tuple[str, ...] = ("2^-10:2^0",)
    """Grid of head steps β where no body learns (given features, frozen bodies)."""
    auxiliary_ratios: tuple[str, ...] = ("1",)
    """Grid of ratios η/β of auxiliary step to head step; a solved head counts as the largest
    finite ratio."""
    fresh_runs: int | None = None
    """Runs, on seeds of their own, that the selected steps are reported on; as --runs if not
    given; 0 for none."""
    select: tuple[str, ...] = ("auc_rmsve",)
    """What a step is selected by, one or several: auc_ or final_ and an error: rmsve, rmspbe,
    lstd_rmsve, best_linear_rmsve, rmstde."""
    baseline: str | None = None
    """The rule that the others are compared with in pairs of runs; the first if not given."""
    engine: str = "local"
    """local: processes on this machine; ray: a Ray cluster."""
    address: str | None = None
    """With --engine ray: HOST:PORT of the cluster, or ray://HOST:PORT; one is started here if not
    given."""
    workers: int | None = None
    """Shards that are run at the same time; the cores of this machine over --threads if not
    given. With ray the cluster decides."""
    threads: int = 1
    """Threads of a shard; a part of what its bits depend on, alike in every engine."""
    memory: float | None = None
    """Gigabytes of the device that all workers of a machine may take together; half of what is
    free if not given."""


def _field_names() -> dict[str, str]:
    return {field.name: "--" + field.name.replace("_", "-") for field in fields(Settings)}


def _line_of(text: str, key: str) -> int:
    """Return the line on which a study file gives a key, or opens a table of that name."""
    name = re.escape(key)
    pattern = re.compile(rf"""^\s*(\[.*)?["']?{name}["']?\s*(\]|=|\.)""")
    return next((n for n, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 0)


def _arguments(path: Path, text: str, table: Mapping[str, Any], overriding: bool) -> dict[str, Any]:
    """Return {flag: its arguments} of a table; UsageError naming the line of what is unknown."""
    flags = _field_names()
    arguments: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        where = f"{path}, line {_line_of(text, key)}"
        if name not in flags or name == "study":
            raise UsageError(f"{where}: unknown key {key!r}{suggestion(name, flags)}")
        if overriding and name in COMMON:
            raise UsageError(f"{where}: {key!r} is common to all problems and cannot be overridden")
        if isinstance(value, dict):
            raise UsageError(f"{where}: {key!r} is a table; give a value or a list")
        if isinstance(value, bool):
            arguments[flags[name] if value else "--no" + flags[name][1:]] = []
        else:
            items = value if isinstance(value, list) else [value]
            arguments[flags[name]] = [str(item) for item in items]
    return arguments


def read_study(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read a study file: {flag: arguments} and, for single problems, {problem: {flag: arguments}}.

    Raises UsageError in one line naming the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--study {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--study {path} is not TOML: {error}") from None
    tables = content.pop(OVERRIDE, {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise UsageError(f'--study {path}: write overrides as a table [{OVERRIDE}."PROBLEM"]')
    common = _arguments(path, text, content, overriding=False)
    special = {name: _arguments(path, text, table, True) for name, table in tables.items()}
    unknown = [name for name in special if name not in common.get("--problem", [])]
    if unknown:
        raise UsageError(
            f"{path}, line {_line_of(text, unknown[0])}: {OVERRIDE} for {unknown[0]!r}, which is "
            "none of its problems"
        )
    return common, special


def read_settings(argv: Sequence[str]) -> tuple[Settings, dict[str, Settings]]:
    """Return the settings of a command line and its study file, and those of each problem.

    Raises UsageError in one line for whatever cannot be used.
    """
    path = None if {"-h", "--help"} & set(argv) else value_of("--study", argv)
    common, special = read_study(Path(path)) if path else ({}, {})

    def parsed(*tables: Mapping[str, Any]) -> Settings:
        merged = {flag: values for table in tables for flag, values in table.items()}
        return parse(Settings, completed(argv, merged), PROGRAM, Settings.__doc__ or "")

    settings = parsed(common)
    if not settings.problem:
        raise UsageError("--problem must be given, or --study with a file that gives it")
    return settings, {name: parsed(common, special.get(name, {})) for name in settings.problem}
