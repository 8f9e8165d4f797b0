"""Command lines of programs: flags to settings, the help page, and the way a program ends.

A program is a dataclass of settings (see `experiments.runs.settings`) and a function that takes the
arguments:

    def program(argv: Sequence[str]) -> None:
        settings = parse(ExampleSettings, argv)

    if __name__ == "__main__":
        sys.exit(main(program))

Flags are the fields in kebab case: `--head-step 0.1`, `--rule td tdc`, `--resume`, `--no-resume`.
"""

import argparse
import ast
import contextlib
import dataclasses
import inspect
import os
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.runs.checks import UsageError, nearest
from experiments.runs.processes import stop_status, terminable
from experiments.runs.requirements import Choice
from experiments.runs.run_folder import holds_run
from experiments.runs.settings import (
    AnySettings,
    CheckedSettings,
    Setting,
    check_setting,
    setting_fields,
    settings_from,
    value_of,
)


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
        print(_help(kinds, settings, defaults or {}), end="")
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
            near += nearest(name, known)[:1]
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


# Help


def help_texts(kind: type) -> dict[str, str]:
    """Return {field: the docstring below it in the source}, of a class and its bases."""
    found: dict[str, str] = {}
    for each in kind.__mro__[::-1]:
        if dataclasses.is_dataclass(each):
            found |= _own_texts(each)
    return found


def _own_texts(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:]):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=said)):
                found[name] = " ".join(str(said).split())
    return found


_KINDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def _metavar(setting: Setting) -> str:
    choices = [
        each.names for each in setting.requirements if isinstance(each, Choice) and not each.own
    ]
    if choices and len(choices[0]) <= 5:
        return "{" + ",".join(choices[0]) + "}"
    return _KINDS[setting.kind]


def _default(setting: Setting, defaults: Mapping[str, str]) -> str:
    if setting.name in defaults:
        return f" (default: {defaults[setting.name]})"
    value = setting.default
    if value is dataclasses.MISSING:
        return " (required)"
    if value is None or value == ():
        return ""
    if setting.kind is bool:
        return f" (default: {'on' if value else 'off'})"
    shown = " ".join(map(str, value)) if setting.several else value
    return f" (default: {shown})"


def _help(
    kinds: Sequence[type[CheckedSettings]],
    settings: Mapping[str, Setting],
    defaults: Mapping[str, str],
) -> str:
    """Return the help page: what the program does, then every flag under its class's first line."""
    place = " ".join(f"{each.flag} …" for each in settings.values() if each.in_place)
    page = argparse.ArgumentParser(
        usage=" ".join(filter(None, [kinds[0].program, place, "[--flag value …]"])),
        description=kinds[0].description(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    order = [each for kind in kinds for each in kind.__mro__]
    texts = {name: text for kind in kinds for name, text in help_texts(kind).items()}
    groups: dict[type, Any] = {}
    for setting in sorted(settings.values(), key=lambda each: order.index(each.group)):
        if setting.group not in groups:
            first = (setting.group.__doc__ or "").split(".")[0]
            title = "options" if setting.group is kinds[0] else first
            groups[setting.group] = page.add_argument_group(title)
        group = groups[setting.group]
        text = (texts.get(setting.name, "") + _default(setting, defaults)).replace("%", "%%")
        if setting.in_place:
            group.add_argument(setting.name, metavar=setting.flag, nargs="+", help=text)
        elif setting.kind is bool:
            action = argparse.BooleanOptionalAction if setting.default else "store_true"
            group.add_argument(setting.flag, action=action, default=argparse.SUPPRESS, help=text)
        else:
            nargs = "*" if setting.several else None
            group.add_argument(setting.flag, metavar=_metavar(setting), nargs=nargs, help=text)
    return page.format_help()


def resume_command(prog: str, argv: Sequence[str]) -> str:
    """Return the line that goes on with an interrupted run, ready for a shell."""
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
        said = f"stopped; go on with: {resume_command(prog, argv)}"
        if not holds_run(out):
            said = "stopped before anything was saved"
        raise Stopped(said, stop_status(stop)) from None
    except OSError as error:
        left = f"{kept} kept, go on with: {resume_command(prog, argv)}"
        if not holds_run(out):
            left = "nothing was saved; mend it and give the command again"
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
