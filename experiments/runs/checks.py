"""Checks of what a user gave: each raises UsageError in one line that says what is allowed."""

import contextlib
import difflib
import importlib
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class UsageError(ValueError):
    """What the user gave cannot be used; the message is the one line that is printed."""


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


def check_readable(flag: str, read: Callable[[str], object], value: str) -> str:
    """Return a value that `read` can read; UsageError naming the flag with what it says."""
    try:
        read(value)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    return value


def check_resume_or_overwrite(resume: bool, overwrite: bool) -> None:
    """Raise UsageError where a run shall be gone on with and replaced."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other: give one of them")


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
        said = " ".join(str(error).split()) or "no message"
        raise UsageError(f"{given}: {kind}{said}") from error
