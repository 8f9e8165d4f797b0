"""What the value of a setting may be: bounds, choices and readers, as data next to its type.

Each says itself what it allows; `experiments.runs.command_line.settings` checks them all and
refuses in one wording.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from experiments.runs.command_line.checks import suggestion

# Above this whole numbers are not exact in double precision.
LARGEST_INTEGER = 2**53


class Requirement(Protocol):
    """What a value must be. `whole`: of a list as a whole, not of its elements."""

    @property
    def whole(self) -> bool:
        """Return whether it is asked of a list as a whole."""

    def objection(self, value: Any) -> str:
        """Return what is wrong with a value, as it follows the flag in a line; "" if nothing."""


class Count(NamedTuple):
    """Whole numbers from `least` to `most`."""

    least: int
    most: int = LARGEST_INTEGER
    whole: bool = False

    def objection(self, value: int) -> str:
        """Name the end that is passed; see `Requirement`."""
        if value < self.least:
            return f" {value} is not allowed: give a whole number of at least {self.least}"
        if value > self.most:
            return f" {value} is not allowed: give a whole number of at most {self.most}"
        return ""


class NumberRange(NamedTuple):
    """Finite numbers between two ends, both included unless `open`."""

    low: float
    high: float = math.inf
    open: bool = False
    whole: bool = False

    def objection(self, value: float) -> str:
        """Say what is allowed; see `Requirement`."""
        inside = self.low < value < self.high if self.open else self.low <= value <= self.high
        return "" if inside and math.isfinite(value) else f" {value:g} is not allowed: give {self}"

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a finite number {'above' if self.open else 'of at least'} {self.low:g}"
        if self.open:
            return f"a number between {self.low:g} and {self.high:g}"
        return f"a number from {self.low:g} to {self.high:g}"


def count(least: int, most: int = LARGEST_INTEGER) -> Count:
    """Allow whole numbers from `least` to `most`."""
    return Count(least, most)


def at_least(low: float) -> NumberRange:
    """Allow finite numbers from `low` on."""
    return NumberRange(low)


def above(low: float) -> NumberRange:
    """Allow finite numbers greater than `low`."""
    return NumberRange(low, open=True)


def from_to(low: float, high: float) -> NumberRange:
    """Allow numbers from `low` to `high`, both included."""
    return NumberRange(low, high)


def between(low: float, high: float) -> NumberRange:
    """Allow numbers between `low` and `high`, neither included."""
    return NumberRange(low, high, open=True)


class Choice(NamedTuple):
    """One of some names; `own`: or module:function."""

    names: tuple[str, ...]
    own: bool = False
    whole: bool = False

    def objection(self, value: str) -> str:
        """List the names, and the nearest; see `Requirement`."""
        if value in self.names or (self.own and ":" in value):
            return ""
        names = ", ".join(self.names) + (" or module:function" if self.own else "")
        return f" {value!r} is not one of {names}{suggestion(value, self.names)}"


def one_of(names: Iterable[str], *, own: bool = False) -> Choice:
    """Allow some names, such as the keys of a registry; `own`: and the user's module:function."""
    return Choice(tuple(names), own)


# Words of what a function calls the text that it reads, such as "reward scale".
_LONGEST_NAME = 2


class Readable(NamedTuple):
    """What a function can read that raises ValueError for everything else."""

    read: Callable[[Any], object]
    whole: bool = False

    def objection(self, value: Any) -> str:
        """Say what the function says; see `Requirement`."""
        try:
            self.read(value)
        except ValueError as error:
            said = str(error)
            if isinstance(value, str):
                # A function that reads a text quotes it, behind a name that the flag says already.
                name, quoted, rest = said.partition(repr(value))
                named = quoted and len(name.split()) <= _LONGEST_NAME
                return f" {quoted}{rest}" if named else f": {said}"
            words = value if self.whole else (value,)
            return "".join(f" {each}" for each in words) + f": {said}"
        return ""


def read_by(read: Callable[[Any], object], *, whole: bool = False) -> Readable:
    """Allow what `read` can read; of a list each element, or all of it at once."""
    return Readable(read, whole)


class Several(NamedTuple):
    """At least one value, and none of them twice."""

    whole: bool = True

    def objection(self, value: Sequence[Any]) -> str:
        """Name what is given twice; see `Requirement`."""
        if not value:
            return " is given without a value; give one or several"
        for each, count in Counter(value).items():
            if count > 1:
                return f" names {each} {count} times; give each once"
        return ""


several = Several()
