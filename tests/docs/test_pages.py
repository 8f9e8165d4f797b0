"""What the documentation makes of docstrings, links and settings."""

import importlib.util
import re
from pathlib import Path

import pytest

from experiments.runs.command_line.settings import Setting, setting_fields
from experiments.sweep.settings.sweep_settings import SweepSettings

DOCS = Path(__file__).parents[2] / "docs"


def module(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_docstring_becomes_definitions_code_and_escaped_words():
    lines = [
        "Return ω*: the solution of `solve`d systems.",
        "",
        "rows:    [batch] numbers_ of",
        "         rows",
        "low, up: ends",
        "",
        "    x = 2 * 3",
        "",
        "Said.",
        "",
    ]
    module("docstrings").process(None, "function", "name", None, None, lines)
    assert lines == [
        "Return ω\\*: the solution of ``solve``\\ d systems.",
        "",
        "rows",
        "    [batch] numbers\\_ of",
        "    rows",
        "low, up",
        "    ends",
        "",
        "::",
        "",
        "    x = 2 * 3",
        "",
        "Said.",
        "",
    ]


def test_fields_of_named_tuples_have_no_entries_of_their_own():
    skip = module("docstrings").skip
    assert skip(None, "class", "fields", Setting.flag, False, None) is True
    assert skip(None, "class", "method", Setting.__init__, False, None) is None


@pytest.mark.parametrize(
    ("page", "text", "shown"),
    [
        ("design", "see [the log](../CHANGELOG.md).", "see the log."),
        ("guide/runs", "see [it](../algorithm.md#a) or [that](../../x.py)", None),
        ("guide/runs", "[a](https://b.c/../d)", "[a](https://b.c/../d)"),
    ],
)
def test_links_that_leave_the_pages_are_left_out(page, text, shown):
    shown = shown or "see [it](../algorithm.md#a) or that"
    assert module("docstrings").without_links_outside(page, text) == shown


def test_the_reference_has_every_program_flag_metric_and_module(tmp_path):
    pages = module("reference_pages")
    pages.write(tmp_path)
    programs = (tmp_path / "programs.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (DOCS.parent / "experiments").glob("*/__main__.py")}
    assert set(re.findall(r"^## (\w+)$", programs, re.MULTILINE)) == folders
    sweep = programs.partition("## sweep\n")[2].partition("\n## ")[0]
    shown = set(re.findall(r"^\| `(--[\w-]+)`", sweep, re.MULTILINE))
    assert shown == {setting.flag for setting in setting_fields(SweepSettings).values()}
    assert "**Length of learning, and measuring of errors**" in sweep
    assert "| `--batch` | 32 on Atari and MinAtar, 64 otherwise |" in programs
    assert "| `error/rmsve` | RMSVE | units of value | truth |" in (
        tmp_path / "metrics.md"
    ).read_text(encoding="utf-8")
    rooms = (DOCS.parent / "neural_tdc").glob("*/")
    rooms = {room.name for room in rooms if (room / "__init__.py").exists()}
    assert rooms <= {package.rpartition(".")[2] for package in pages.ROOMS.values()}
    assert ".. automodule:: neural_tdc.rules.heads" in (
        tmp_path / "api-neural_tdc-rules.rst"
    ).read_text(encoding="utf-8")
