"""Command lines from dataclasses: parsing, the checks after it, and the way a program ends.

A program is a dataclass of settings, each with its default and a docstring that says its unit, and
a function that takes the arguments:

    @dataclass
    class Settings:
        \"\"\"…\"\"\"

        out: Path
        \"\"\"Folder of the run.\"\"\"
        head_step: float = 0.1
        \"\"\"Step size β of the head.\"\"\"
        lambda_: Annotated[float, tyro.conf.arg(name="lambda")] = 0.9
        \"\"\"Trace decay λ: a field cannot be called `lambda`, its flag can.\"\"\"

    def program(argv: Sequence[str]) -> None:
        settings = parse(Settings, argv, "python -m experiments.name", "What it does.")
        check_step_size("--head-step", settings.head_step)

    if __name__ == "__main__":
        sys.exit(main(program))

Flags are in kebab case. The parser only makes numbers of strings: what a value may be is checked
after parsing, by `experiments.runs.checks`, which all can be imported from here.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
import tyro

from experiments.runs.checks import (
    UsageError,
    check_choice,
    check_fraction,
    check_integer,
    check_positive,
    check_positive_integer,
    check_readable,
    check_resume_or_overwrite,
    check_several,
    check_step_size,
    load_part,
    named,
    nearest,
    resolve_device,
    suggestion,
)
from experiments.runs.processes import stop_status, terminable

__all__ = [
    "Stopped",
    "UsageError",
    "check_choice",
    "check_fraction",
    "check_integer",
    "check_positive",
    "check_positive_integer",
    "check_readable",
    "check_resume_or_overwrite",
    "check_several",
    "check_step_size",
    "load_part",
    "main",
    "named",
    "nearest",
    "parse",
    "resolve_device",
    "resume_command",
    "suggestion",
]

T = TypeVar("T")


class Stopped(Exception):
    """A program ends before its work is done, in a way it has prepared.

    status:   1 for a failure at work, 130 after Ctrl-C, 143 after SIGTERM
    message:  what is printed on standard error, such as the line that resumes
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


# Parsing


def _check_repeated_flags(argv: Sequence[str]) -> None:
    """Raise where a flag stands twice: the parser would keep the last one silently."""
    flags = [argument.partition("=")[0] for argument in argv if argument.startswith("--")]
    names = [flag.replace("_", "-") for flag in flags if flag != "--"]
    switches = {f"--no-{name[2:]}" for name in names}
    counts = Counter(f"--{name[5:]}" if name in switches else name for name in names)
    for flag, count in counts.items():
        if count > 1:
            raise UsageError(f"{flag} is given {count} times; give it once, with all its values")


def _flag_of(argument: str) -> str:
    """Return the flag of an argument in the one spelling that all have here."""
    name = argument.partition("=")[0].replace("_", "-")
    return "--" + name.removeprefix("--no-") if name.startswith("--no-") else name


def given_flags(argv: Sequence[str]) -> set[str]:
    """Return the flags of a command line, each in the one spelling that all have here."""
    return {_flag_of(argument) for argument in argv if argument.startswith("--")}


def completed(argv: Sequence[str], defaults: Mapping[str, Sequence[str]]) -> list[str]:
    """Put flags before a command line, those left out that it gives itself.

    defaults: {flag: its arguments}
    """
    given = given_flags(argv)
    kept = {flag: values for flag, values in defaults.items() if _flag_of(flag) not in given}
    return [*(part for flag, values in kept.items() for part in (flag, *values)), *argv]


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the value of a flag before the command line is parsed; None where it has none."""
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name == flag and equals:
            return value
        if name == flag and index + 1 < len(argv) and not argv[index + 1].startswith("--"):
            return argv[index + 1]
    return None


_NO_NUMBER = (
    (re.compile(r"Error parsing (\S+): invalid literal for int.*10: (.*)"), "a whole number"),
    (re.compile(r"Error parsing (\S+): could not convert string to float: (.*)"), "a number"),
)
_NO_TYPE = re.compile(
    r"Error parsing (\S+): no type matching \{None\}\|(INT|FLOAT) .* from \['(.*)'\]"
)
_UNKNOWN = re.compile(r"Unrecognized options: (.*)")
_MISSING = re.compile(r"Missing value for argument '([^']+)'.*")


def _one_line(message: str) -> str:
    """Return what the parser printed in a box as one line, without its help text."""
    said: list[str] = []
    lines = [line.strip("│ \t") for line in message.splitlines()]
    # Where the screen has no UTF-8 there is no box, and the title stands above a rule.
    for line in lines[2:] if lines[1:] and lines[1].startswith("---") else lines:
        if line.startswith(("For full helptext", "Argument helptext")):
            break
        if line and not line.startswith(("╭", "╰", "─", "---")):
            said.append(line)
    first = said[0] if said else "the command line cannot be read"
    # With a missing flag the parser lists below it what it did not know.
    end = said.index("Unrecognized options:") if "Unrecognized options:" in said else len(said)
    flags = [line.split()[0].rstrip(",") for line in said[1:end] if line.startswith("--")]
    unknown = " ".join(said[end + 1 :])
    for pattern, kind in _NO_NUMBER:
        if found := pattern.match(first):
            return f"{found[1]} {found[2]} is not {kind}"
    if found := _NO_TYPE.match(first):
        kind = "a whole number" if found[2] == "INT" else "a number"
        return f"{found[1]} {found[3]} is not {kind}"
    if found := _MISSING.match(first):
        return f"{found[1]} is given without a value"
    if found := _UNKNOWN.match(first):
        hint = f"; did you mean {' or '.join(flags)}?" if flags else "; see --help"
        return f"unknown on the command line: {found[1].replace(', ', ' ')}{hint}"
    if flags:
        rest = f"; unknown on the command line: {unknown}" if unknown else ""
        return f"{' and '.join(flags)} must be given{rest}; see --help"
    return f"{first}; see --help"


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep the parser from breaking the lines of its messages."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def parse(settings: type[T], argv: Sequence[str], prog: str, description: str) -> T:
    """Make settings of a command line; print the help and exit with 0 on --help.

    Raises UsageError in one line for what cannot be parsed and for a flag that is given twice.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        return tyro.cli(settings, args=["--help"], prog=prog, description=description)
    _check_repeated_flags(argv)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _wide_terminal():
            return tyro.cli(settings, args=list(argv), prog=prog, description=description)
    except SystemExit:
        raise UsageError(_one_line(printed.getvalue())) from None


def resume_command(prog: str, argv: Sequence[str]) -> str:
    """Return the line that goes on with an interrupted run, ready for a shell."""
    kept = [part for part in argv if part not in ("--overwrite", "--resume", "--no-resume")]
    return shlex.join([*shlex.split(prog), *kept, "--resume"])


# Ending


@contextlib.contextmanager
def resumable(
    prog: str, argv: Sequence[str], kept: str = "the last checkpoint is"
) -> Iterator[None]:
    """Turn a stop of long work into a Stopped with the line that goes on with it.

    130 after Ctrl-C, 143 after SIGTERM, 1 where a file cannot be written, such as on a full disk.
    kept: what is left
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        said = f"stopped; go on with: {resume_command(prog, argv)}"
        raise Stopped(said, stop_status(stop)) from None
    except OSError as error:
        said = error.strerror or str(error)
        raise Stopped(
            f"error: {said}; {kept} kept, go on with: {resume_command(prog, argv)}"
        ) from error


def _say(message: str) -> None:
    # Standard error may be closed by the time there is something to say.
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def _no_memory(error: Exception) -> bool:
    # On the CPU torch has no class of its own for it.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def main(program: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a program and return its exit status; nothing a user can get wrong gives a traceback.

    0 when done, 2 for a ValueError (one line, `error: …`), 1 for an OSError or too little memory,
    the status of a Stopped, 130 after Ctrl-C, 143 after SIGTERM. Any other exception is a mistake
    of ours and is raised. With `python -X dev` so are all but Stopped, Ctrl-C and SIGTERM.
    """
    try:
        with terminable():
            program(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return 0
    except Stopped as stopped:
        _say(str(stopped))
        return stopped.status
    except KeyboardInterrupt as stop:
        _say("interrupted")
        return stop_status(stop)
    except BrokenPipeError:
        # Whoever read our output wants no more; without this Python complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        said = " ".join(str(error).split())
        if isinstance(error, ValueError):
            _say(f"error: {said}")
            return 2
        if isinstance(error, OSError):
            strerror, name = error.strerror or said, error.filename
            _say(f"error: {strerror}: {name}" if name else f"error: {strerror}")
            return 1
        if _no_memory(error):
            _say(f"error: not enough memory: {said}" if said else "error: not enough memory")
            return 1
        raise
