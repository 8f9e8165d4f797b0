"""The command lines of the benchmarks show units and defaults, and refuse in one line."""

import argparse
import importlib
import json
from pathlib import Path

import pytest

from benchmarks.command_line import CommandLine, result_file, whole_number, write_results

# The peers need packages of their own; the program for a GPU has a test of its own.
NAMES = [
    "accuracy.__main__",
    "accuracy.best_setting",
    "commands",
    "coverage.__main__",
    "dqn_population",
    "held_out_noise",
]
NAMES += ["learner", "log_memory", "presets.__main__", "supervised"]


def main_of(name):
    return importlib.import_module(f"benchmarks.{name}").main


@pytest.fixture
def ended(monkeypatch, capsys):
    """Return the status and the words of a benchmark that ends before it measures."""

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *arguments])
        with pytest.raises(SystemExit) as ending:
            main_of(name)()
        said = capsys.readouterr()
        return ending.value.code, said.out + said.err

    return run


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_benchmark_names_it_and_explains_every_flag(name, monkeypatch):
    class SeenError(Exception):
        """Carries the parser out of the program, before it measures."""

    def seen(parser):
        raise SeenError(parser)

    monkeypatch.setattr(CommandLine, "parse_args", seen)
    with pytest.raises(SeenError) as ending:
        main_of(name)()
    (parser,) = ending.value.args
    assert parser.prog == f"python -m benchmarks.{name.removesuffix('.__main__')}"
    assert f": {parser.prog}.\n" in parser.description
    flags = [each for each in parser._actions if each.help != argparse.SUPPRESS]
    assert len(flags) > 1
    assert [each.dest for each in flags if not each.help] == []


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("learner", ["--runs", "0"], "--runs: 0 is not allowed: give a whole number of at least 1"),
        ("learner", ["--device", "tpu"], "--device: tpu is not allowed: give cpu or cuda"),
        ("supervised", ["--rnds", "2"], "unrecognized arguments: --rnds 2"),
        ("held_out_noise", ["--sizes", "9", "--total", "5"], "--sizes 9 is more than --total 5"),
        (
            "dqn_population",
            ["--runs", "2", "--processes", "5"],
            "--processes 5 is more than --runs 2",
        ),
    ],
)
def test_a_wrong_value_is_one_line_and_status_2(name, arguments, message, ended):
    assert ended(name, *arguments) == (2, f"error: {message}\n")


def test_a_policy_or_a_problem_that_is_not_there_is_named(ended):
    status, said = ended("held_out_noise", "--behaviour", "foo")
    assert status == 2
    assert said.startswith("error: --problem CartPole-v1: unknown behaviour policy 'foo'")
    status, said = ended("dqn_population", "--problem", "MinAtar/Foo")
    assert status == 2
    assert said.startswith("error: --problem: unknown game 'MinAtar/Foo'")


def test_results_are_written_whole_and_only_where_that_is_possible(tmp_path, capsys):
    path = tmp_path / "new" / "results.json"
    assert result_file(str(path)) == path
    write_results(path, {"rows": [1, 2]})
    assert json.loads(path.read_text()) == {"rows": [1, 2]}
    assert [each.name for each in path.parent.iterdir()] == ["results.json"]
    parser = CommandLine("learner", "Text.")
    parser.add_argument("--out", type=result_file, default=Path("a"), help="file")
    parser.add_argument("--rounds", type=whole_number(2), default=[3, 4], help="windows")
    for wrong in (tmp_path, path / "below"):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(["--out", str(wrong)])
        assert "cannot be written: give the name of a file" in capsys.readouterr().err
    assert "windows (default: 3 4)" in parser.format_help()
