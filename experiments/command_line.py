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
here, after parsing, in one line that names the flag, the value and what is allowed.
"""

import contextlib
import difflib
import importlib
import io
import math
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import tyro

T = TypeVar("T")


class UsageError(ValueError):
    """What the user gave cannot be used; the message is the one line that is printed."""


class Stopped(Exception):
    """A program ends before its work is done, in a way it has prepared.

    status:   1 for a failure at work, 130 after Ctrl-C
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


_NO_NUMBER = (
    (re.compile(r"Error parsing (\S+): invalid literal for int.*10: (.*)"), "a whole number"),
    (re.compile(r"Error parsing (\S+): could not convert string to float: (.*)"), "a number"),
)
_UNKNOWN = re.compile(r"Unrecognized options: (.*)")
_MISSING = re.compile(r"Missing value for argument '([^']+)'.*")


def _one_line(message: str) -> str:
    """Return what the parser printed in a box as one line, without its help text."""
    said: list[str] = []
    for line in (line.strip("│ \t") for line in message.splitlines()):
        if line.startswith(("For full helptext", "Argument helptext")):
            break
        if line and not line.startswith(("╭", "╰", "─")):
            said.append(line)
    first = said[0] if said else "the command line cannot be read"
    # With a missing flag the parser lists below it what it did not know.
    end = said.index("Unrecognized options:") if "Unrecognized options:" in said else len(said)
    flags = [line.split()[0].rstrip(",") for line in said[1:end] if line.startswith("--")]
    unknown = " ".join(said[end + 1 :])
    for pattern, kind in _NO_NUMBER:
        if found := pattern.match(first):
            return f"{found[1]} {found[2]} is not {kind}"
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


# Checks


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that look like `name`, the likest first."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    return [by_lower[low] for low in difflib.get_close_matches(name.lower(), by_lower, 3, 0.5)]


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean a or b?", or nothing where nothing looks like it."""
    found = nearest(name, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_choice(flag: str, value: str, names: Iterable[str]) -> str:
    """Return a value that is one of `names`; UsageError with all of them and the nearest."""
    allowed = list(names)
    if value not in allowed:
        hint = suggestion(value, allowed)
        raise UsageError(f"{flag} {value!r} is not one of {', '.join(allowed)}{hint}")
    return value


def check_several(flag: str, values: Sequence[T]) -> Sequence[T]:
    """Return values of which there is at least one and none twice; UsageError otherwise."""
    if not values:
        raise UsageError(f"{flag} is given without a value; give one or several")
    for value, count in Counter(values).items():
        if count > 1:
            raise UsageError(f"{flag} names {value} {count} times; give each once")
    return values


def check_integer(flag: str, value: int, least: int, most: int = 2**53) -> int:
    """Return an integer from `least` to `most`; UsageError otherwise."""
    if value < least:
        raise UsageError(f"{flag} {value} is not allowed: give a whole number of at least {least}")
    if value > most:
        raise UsageError(f"{flag} {value} is not allowed: give a whole number of at most {most}")
    return value


def check_positive_integer(flag: str, value: int) -> int:
    """Return an integer of at least 1; UsageError otherwise."""
    return check_integer(flag, value, 1)


def check_step_size(flag: str, value: float) -> float:
    """Return a finite number of at least 0; UsageError otherwise."""
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"{flag} {value:g} is not allowed: give a finite number of at least 0")
    return value


def check_positive(flag: str, value: float) -> float:
    """Return a finite number above 0; UsageError otherwise."""
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"{flag} {value:g} is not allowed: give a finite number above 0")
    return value


def check_fraction(flag: str, value: float) -> float:
    """Return a number from 0 to 1, both included; UsageError otherwise."""
    if not 0 <= value <= 1:
        raise UsageError(f"{flag} {value:g} is not allowed: give a number from 0 to 1")
    return value


def resolve_device(value: str, flag: str = "--device") -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`; UsageError for one that is not there."""
    check_choice(flag, value, ("auto", "cpu", "cuda"))
    present = torch.cuda.is_available()
    if value == "cuda" and not present:
        built = torch.version.cuda
        reason = (
            f"no CUDA device is visible to torch {torch.__version__}"
            if built
            else f"torch {torch.__version__} is built without CUDA"
        )
        raise UsageError(f"{flag} cuda cannot be used: {reason}; use --device cpu or auto")
    return torch.device("cuda" if value == "cuda" or (value == "auto" and present) else "cpu")


def load_part(spec: str, flag: str) -> Callable[..., Any]:
    """Return the user's own function of `module:function`, looked for from the current folder.

    Raises UsageError where the module is not found, fails when it is imported, has no such name,
    or where that name is nothing to call.
    """
    module_name, colon, name = spec.partition(":")
    parts = module_name.split(".")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in parts):
        raise UsageError(f"{flag} {spec!r} is not of the form module:function")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (module_name == missing or module_name.startswith(missing + ".")):
            raise UsageError(f"{flag} {spec}: no module {missing} in {here} or installed") from None
        said = " ".join(str(error).split()) or "no message"
        raise UsageError(
            f"{flag} {spec}: importing {module_name} failed with {type(error).__name__}: {said}"
        ) from error
    if not hasattr(module, name):
        names = [other for other in vars(module) if not other.startswith("_")]
        raise UsageError(
            f"{flag} {spec}: {module_name} has no {name}{suggestion(name, names)}"
        ) from None
    part = getattr(module, name)
    if not callable(part):
        raise UsageError(f"{flag} {spec}: {name} is of type {type(part).__name__}, not a function")
    return part


# Ending


def _say(message: str) -> None:
    # Standard error may be closed by the time there is something to say.
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def main(program: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a program and return its exit status; nothing a user can get wrong gives a traceback.

    0 when done, 2 for a ValueError (one line, `error: …`), 1 for an OSError or too little memory,
    the status of a Stopped, 130 after Ctrl-C. Any other exception is a mistake of ours and goes on
    as it is. With `python -X dev` so does every ValueError and OSError.
    """
    try:
        program(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return 0
    except Stopped as stopped:
        _say(str(stopped))
        return stopped.status
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our output wants no more; without this Python complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        if sys.flags.dev_mode:
            raise
        _say(f"error: {' '.join(str(error).split())}")
        return 2
    except (OSError, MemoryError, torch.OutOfMemoryError) as error:
        if sys.flags.dev_mode:
            raise
        said = " ".join(str(error).split()) or "not enough memory"
        if isinstance(error, OSError) and error.strerror:
            said = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        _say(f"error: {said}")
        return 1
