"""Grids of step sizes and ratios, as they are written on the command line and in study files."""

import itertools
import math
import re
from collections.abc import Sequence

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import read_number

_POWER = re.compile(r"([0-9.]+)\^(-?[0-9]+)")
_LARGEST_GRID = 10_000


def _power(text: str) -> tuple[float, int] | None:
    """Return base and exponent of `2^-3`, None for what is written otherwise."""
    found = _POWER.fullmatch(text)
    return (float(found[1]), int(found[2])) if found else None


def _number(flag: str, text: str) -> float:
    try:
        return read_number(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not a number, a power such as 2^-3 or a range such as 2^-10:2^0"
        ) from None


def _range(flag: str, text: str) -> list[float]:
    """Return the powers of `2^-10:2^0`, or every third of them for `2^-10:2^0:3`."""
    first, last, *stride = text.split(":")
    begin, end = _power(first), _power(last)
    every = int(stride[0]) if len(stride) == 1 and stride[0].isdecimal() else 0 if stride else 1
    if begin is None or end is None or begin[0] != end[0] or not every:
        raise UsageError(
            f"{flag} {text!r} is not a range: write two powers of one base, as 2^-10:2^0, or every "
            "third of them, as 2^-10:2^0:3"
        )
    if end[1] < begin[1]:
        raise UsageError(f"{flag} {text} is empty: its end is below its beginning")
    if end[1] - begin[1] > _LARGEST_GRID:
        raise UsageError(f"{flag} {text} has more than {_LARGEST_GRID} values")
    return [begin[0] ** exponent for exponent in range(begin[1], end[1] + 1, every)]


def grid(flag: str, texts: Sequence[str], *, infinite: bool = False) -> list[float]:
    """Return the positive numbers that the texts stand for, in ascending order.

    texts:    numbers (0.01), powers (2^-3) and ranges of powers (2^-10:2^0), mixed at will
    infinite: whether `inf` is allowed

    Raises UsageError in one line for an empty grid, for what is no positive number, and for a
    number that stands twice.
    """
    values: list[float] = []
    for text in texts:
        values += _range(flag, text) if ":" in text else [_number(flag, text)]
    if not values:
        raise UsageError(f"{flag} is an empty grid: give one value at least")
    for value in values:
        allowed = value > 0 and (math.isfinite(value) or (infinite and value == math.inf))
        if not allowed:
            kind = "a number above 0, or inf" if infinite else "a finite number above 0"
            raise UsageError(f"{flag} {value:g} is not allowed: give {kind}")
    ordered = sorted(values)
    for one, other in itertools.pairwise(ordered):
        if one == other or math.isclose(one, other, rel_tol=1e-12):
            raise UsageError(f"{flag} has {one:g} twice, a duplicate configuration; give it once")
    return ordered
