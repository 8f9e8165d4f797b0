"""What a user gave and cannot be used: the error, the nearest names, parts of their own."""

import contextlib
import difflib
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

# Where what torch says of its own inside begins.
_INTERNALS = (" Exception raised from ", " frame #0", " C++ Captured", " (Triggered internally")
_OF_TORCHSCRIPT = "The following operation failed in the TorchScript interpreter"
_LONGEST = 600
# What Python calls a function without a name; a partial one has none.
_NAMELESS = "<lambda>"


class UsageError(ValueError):
    """What the user gave cannot be used; the message is the one line that is printed."""


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that look like `name`, the likest first."""
    by_lower = {candidate.lower(): candidate for candidate in names if candidate != name}
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


def in_words(error: BaseException) -> str:
    """Return the message of an error in one line, without what torch adds of its own inside.

    These are addresses in its source, traces of its C++ and of TorchScript.
    """
    said = " ".join(str(error).split())
    # The reason stands behind the trace.
    said = re.sub(rf"{_OF_TORCHSCRIPT}.*\w+(?:Error|Exception): ", "", said)
    said = re.sub(r"\[enforce fail at [^]]*\] ?\.? ?", "", said)
    for beginning in _INTERNALS:
        said = said.partition(beginning)[0]
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"


def load_part(
    spec: str, flag: str, accepts: Callable[[Any], bool] = callable
) -> Callable[..., Any]:
    """Return the user's own function of `module:function`, looked for from the current folder.

    Raises UsageError where the module is not found, fails when it is imported, has no such name,
    or where that name is nothing to call, or nothing that is accepted.
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
        said = in_words(error) or "no message"
        raise UsageError(
            f"{flag} {spec}: importing {module_name} failed with {type(error).__name__}: {said}"
        ) from error
    if not hasattr(module, name):
        names = [other for other in vars(module) if not other.startswith("_")]
        raise UsageError(
            f"{flag} {spec}: {module_name} has no {name}{suggestion(name, names)}"
        ) from None
    part = getattr(module, name)
    if not accepts(part):
        raise UsageError(f"{flag} {spec}: {name} is of type {type(part).__name__}, not a function")
    # What is printed and written names parts by their own names, which these do not have.
    functions = (FunctionType, functools.partial)
    if isinstance(part, functions) and getattr(part, "__name__", _NAMELESS) == _NAMELESS:
        part.__name__ = name  # type: ignore[union-attr]
    return part


@contextlib.contextmanager
def named(given: str) -> Iterator[None]:
    """Turn what a part that is not ours raises into one line that begins with what was given.

    `python -X dev` shows where it was raised.
    """
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        said = in_words(error) or "no message"
        raise UsageError(f"{given}: {kind}{said}") from error
