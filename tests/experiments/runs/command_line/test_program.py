import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import torch

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import (
    Stopped,
    flags_given,
    main,
    parse,
    resume_command,
)
from experiments.runs.command_line.requirements import at_least
from experiments.runs.command_line.settings import IN_PLACE, CheckedSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(CheckedSettings):
    """Try the command line."""

    program: ClassVar[str] = "python -m experiments.try"

    out: Path
    """Folder of the run."""
    rule: tuple[str, ...] = ("tdc",)
    """Learning rules, one or several."""
    runs: int = 10
    """Number of runs."""
    head_step: Annotated[float, at_least(0)] = 0.1
    """Step size of the head."""
    lambda_: float = 0.9
    """Trace decay."""
    resume: bool = False
    """Continue the run."""


def parsed(line):
    return parse(Settings, line.split())


def refused(line):
    with pytest.raises(UsageError) as caught:
        parsed(line)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_are_kebab_case_take_equal_signs_and_may_be_named_after_keywords():
    settings = parsed("--out a --rule td tdc --head-step=0.5 --lambda 0.25 --resume --runs 3")
    assert settings == Settings(
        out=Path("a"), rule=("td", "tdc"), runs=3, head_step=0.5, lambda_=0.25, resume=True
    )
    assert not parsed("--out a --no-resume").resume


@pytest.mark.parametrize("value", ["-1", "-.5", "-1e-3", "-inf", "nan", "inf", "1e400"])
@pytest.mark.parametrize("equals", [" ", "="])
def test_values_that_begin_with_a_minus_or_are_not_finite_reach_our_checks(value, equals):
    said = refused(f"--out a --head-step{equals}{value}")
    assert said == (
        f"--head-step {float(value):g} is not allowed: give a finite number of at least 0"
    )
    assert str(parsed(f"--out a --lambda{equals}{value}").lambda_) == str(float(value))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--out a --runs 2 --runs 3", "--runs is given 2 times"),
        ("--out a --runs=2 --runs 3 --runs=4", "--runs is given 3 times"),
        ("--out a --rule td --rule tdc", "--rule is given 2 times; give it once, with all its"),
        ("--out a --head-step 1 --head_step 2", "--head-step is given 2 times"),
        ("--out a --resume --no-resume", "--resume is given 2 times"),
        ("--out a --runs 1.5", "--runs '1.5' is not a whole number"),
        ("--out a --head-step=abc", "--head-step 'abc' is not a number"),
        ("--out a --runs=", "--runs '' is not a whole number"),
        ("--out a --runs " + "9x" * 80, f"--runs '{'9x' * 80}' is not a whole number"),
        ("--out a --rules td", "unknown on the command line: --rules td; did you mean --rule?"),
        ("--out a surplus", "unknown on the command line: surplus; see --help"),
        ("--out a --head-step", "--head-step is given without a value"),
        ("--runs 3", "--out must be given; see --help"),
        ("--zzzz a", "unknown on the command line: --zzzz a; see --help"),
        ("--ot a", "unknown on the command line: --ot a; did you mean --out?"),
        ("--out a --resume yes", "unknown on the command line: yes; see --help"),
        ("--out a --runs 2 3", "unknown on the command line: 3; see --help"),
        ("--out a --qqq 2 --zzz", "unknown on the command line: --qqq 2 --zzz; see --help"),
        ("--out a --runs 2^2", "--runs '2^2' is not a whole number"),
    ],
)
def test_what_cannot_be_parsed_is_one_line_that_names_the_flag(line, said):
    assert refused(line).startswith(said)


def test_a_narrow_terminal_breaks_no_message(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert refused("--out a --runs 12345678901234567890x").startswith(
        "--runs '12345678901234567890x' is not"
    )
    monkeypatch.delenv("COLUMNS")
    refused("--out a --runs x")


def test_help_explains_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        parsed("--runs nonsense --help")
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: python -m experiments.try [--flag value …] Try the command line.",
        "--rule [TEXT ...] Learning rules, one or several. (default: tdc)",
        "--resume Continue the run. (default: off)",
        "--head-step FLOAT",
        "Step size of the head. (default: 0.1)",
        "--lambda FLOAT",
        "Number of runs. (default: 10)",
        "Folder of the run. (required)",
    ):
        assert part in shown


def test_the_line_that_resumes_can_be_pasted():
    line = resume_command("python -m experiments.try", ["--out", "my run", "--overwrite"])
    assert line == "python -m experiments.try --out 'my run' --resume"
    assert resume_command("p", ["--resume", "--out", "a"]) == "p --out a --resume"


def ending(error):
    def program(argv):
        raise error

    return program


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("--runs 0 is\nnot allowed"), 2, "error: --runs 0 is not allowed\n"),
        (ValueError("rows do not sum to one"), 2, "error: rows do not sum to one\n"),
        (OSError(28, "No space left", "a/b"), 1, "error: No space left: a/b\n"),
        (OSError("x cannot be written"), 1, "error: x cannot be written\n"),
        (MemoryError(), 1, "error: not enough memory\n"),
        (torch.OutOfMemoryError("too much"), 1, "error: not enough memory: too much\n"),
        (Stopped("continue with: x --resume", 130), 130, "continue with: x --resume\n"),
        (Stopped("disk full"), 1, "disk full\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_end_has_its_status_and_one_line_and_no_traceback(error, status, said, capsys):
    assert main(ending(error), []) == status
    captured = capsys.readouterr()
    assert captured.err == said
    assert captured.out == ""


def test_a_program_that_is_done_returns_zero_and_gets_the_arguments(monkeypatch):
    seen = []
    assert main(seen.append, ["a"]) == 0
    monkeypatch.setattr(sys, "argv", ["program", "b", "c"])
    assert main(seen.append) == 0
    assert seen == [["a"], ["b", "c"]]


def test_too_large_a_tensor_is_too_little_memory(capsys):
    assert main(lambda _: torch.empty(10**17), []) == 1
    assert capsys.readouterr().err.startswith("error: not enough memory: ")


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        main(lambda _: 1 / 0, [])


PROGRAM = """
from experiments.runs.command_line.processes import leave
from experiments.runs.command_line.program import main
def program(argv):
    for line in range(100_000):
        print(line)
leave(main(program))
"""


def test_a_reader_that_wants_no_more_ends_the_program_quietly():
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -1; exit ${PIPESTATUS[0]}', sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 1)


def test_what_was_given_is_known_apart_from_the_defaults():
    line = "--out a --rule td --no-resume --head_step 2^-2"
    assert flags_given([Settings], line.split()) == {
        "out": Path("a"),
        "rule": ("td",),
        "resume": False,
        "head_step": 0.25,
    }
    assert flags_given([Settings], []) == {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placed(CheckedSettings):
    """Try words without a flag."""

    folder: Annotated[tuple[Path, ...], IN_PLACE]
    out: Path | None = None


@pytest.mark.parametrize("line", ["a b --out c", "a --out c b", "--out c a b"])
def test_words_without_a_flag_belong_to_the_field_that_is_given_by_its_place(line):
    assert parse(Placed, line.split()) == Placed(folder=(Path("a"), Path("b")), out=Path("c"))


def test_a_missing_place_is_named_in_capitals():
    with pytest.raises(UsageError, match=r"^FOLDER must be given; see --help$"):
        parse(Placed, ["--out", "c"])
