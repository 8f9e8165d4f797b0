"""Command lines of programs: flags to settings, the help page, and the way a program ends.

A program is a dataclass of settings (see `experiments.runs.command_line.settings`) and a
function that takes the arguments:

    def program(argv: Sequence[str]) -> None:
        settings = parse(ExampleSettings, argv)

    if __name__ == "__main__":
        leave(main(program))

Flags are the fields in kebab case: `--head-step 0.1`, `--rule td tdc`, `--resume`, `--no-resume`.
"""

import contextlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.runs.command_line.checks import UsageError, in_words, nearest
from experiments.runs.command_line.help_page import help_page
from experiments.runs.command_line.processes import stop_status, terminable
from experiments.runs.command_line.settings import (
    AnySettings,
    CheckedSettings,
    check_setting,
    setting_fields,
    settings_from,
    value_of,
)
from experiments.runs.folder.folder_contents import holds_run


class Stopped(Exception):
    """A program ends before its work is done, in a way it has prepared.

    status:   1 for a failure at work, 130 after Ctrl-C, 143 after SIGTERM
    message:  what is printed on standard error, such as the line that resumes
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


# Parsing


class _Flag(NamedTuple):
    """A flag as it was given, in the one spelling that all have here, with the words after it."""

    given: str
    name: str
    words: list[str]


def _flags(argv: Sequence[str]) -> list[_Flag]:
    """Cut a command line into its flags; words before the first one have the flag ""."""
    flags = [_Flag("", "", [])]
    for argument in argv:
        if argument.startswith("--"):
            given, equals, value = argument.partition("=")
            flags.append(_Flag(given, given.replace("_", "-"), [value] if equals else []))
        else:
            flags[-1].words.append(argument)
    return flags


def _check_repeated(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"{name} is given {count} times; give it once, with all its values")


def flags_given(
    kinds: Sequence[type[CheckedSettings]],
    argv: Sequence[str],
    defaults: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return {field: value} of what a command line gives, for settings of one or several classes.

    defaults:  {field: what --help says of its default}, where that depends on other flags

    On --help prints the help, which begins with the first class's docstring, and exits with 0.
    Raises UsageError in one line for what cannot be read and for a flag that is given twice.
    """
    settings = {name: each for kind in kinds for name, each in setting_fields(kind).items()}
    if not {"-h", "--help"}.isdisjoint(argv):
        print(help_page(kinds, settings, defaults or {}), end="")
        raise SystemExit(0)
    by_flag = {each.flag: each for each in settings.values() if not each.in_place}
    switches = {"--no" + each.flag[1:]: each for each in by_flag.values() if each.kind is bool}
    in_place = next((each for each in settings.values() if each.in_place), None)
    known = {**switches, **by_flag}
    flags = _flags(argv)
    _check_repeated([known[each.name].flag for each in flags if each.name in known])
    values: dict[str, Any] = {}
    placed: list[str] = []
    unknown: list[str] = []
    near: list[str] = []
    for given, name, words in flags:
        setting = known.get(name)
        if not given:
            surplus = words
        elif setting is None:
            unknown += [given, *words]
            # Dashes, which all flags share, say nothing.
            alike = nearest(name.strip("-"), (flag.strip("-") for flag in known))
            near += [f"--{flag}" for flag in alike[:1]]
            continue
        elif setting.kind is bool:
            surplus = words
            values[setting.name] = name not in switches
        elif setting.several:
            surplus = []
            values[setting.name] = value_of(setting, words)
        elif not words:
            raise UsageError(f"{name} is given without a value")
        else:
            surplus = words[1:]
            values[setting.name] = value_of(setting, words[:1])
        (unknown if in_place is None else placed).extend(surplus)
    if unknown:
        hint = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else "; see --help"
        raise UsageError(f"unknown on the command line: {' '.join(unknown)}{hint}")
    if in_place is not None and placed:
        values[in_place.name] = value_of(in_place, placed)
    # Before anything is asked of them together.
    for name, value in values.items():
        check_setting(settings[name], value)
    return values


def parse(kind: type[AnySettings], argv: Sequence[str]) -> AnySettings:
    """Make settings of a command line; print the help and exit with 0 on --help.

    Raises UsageError in one line for what cannot be used.
    """
    return settings_from(kind, flags_given([kind], argv))


def resume_command(prog: str, argv: Sequence[str]) -> str:
    """Return the line that resumes an interrupted run, ready for a shell."""
    kept = [part for part in argv if part not in ("--overwrite", "--resume", "--no-resume")]
    return shlex.join([*shlex.split(prog), *kept, "--resume"])


# Ending


@contextlib.contextmanager
def resumable(
    prog: str, argv: Sequence[str], out: Path, kept: str = "the last checkpoint is"
) -> Iterator[None]:
    """Turn a stop of long work into a Stopped with the line that resumes it.

    130 after Ctrl-C, 143 after SIGTERM, 1 where a file cannot be written, such as on a full disk.
    out:  the run's folder; where it holds no run yet there is nothing to resume
    kept: what is left
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        said = f"stopped; continue with: {resume_command(prog, argv)}"
        if not holds_run(out):
            said = "stopped before anything was saved"
        raise Stopped(said, stop_status(stop)) from None
    except OSError as error:
        left = f"{kept} kept, continue with: {resume_command(prog, argv)}"
        if not holds_run(out):
            left = "nothing was saved; correct the cause and run the command again"
        raise Stopped(f"error: {error.strerror or error}; {left}") from error


def _say(message: str) -> None:
    # Standard error may be closed by the time there is something to say.
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def _no_memory(error: Exception) -> bool:
    # On the CPU torch has no class of its own for it; of another one only the name is needed here.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error))
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
        said = in_words(error)
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
