"""Settings as data: a frozen dataclass per program, whose fields say what their values may be.

    @dataclass(frozen=True, kw_only=True)
    class ExampleSettings(CheckedSettings):
        \"\"\"Try something.\"\"\"

        runs: Annotated[int, count(1)] = 10
        \"\"\"Number of runs.\"\"\"
        head_step: Annotated[float, at_least(0)] = 0.1
        \"\"\"Step size β of the head.\"\"\"
        rule: Annotated[tuple[str, ...], several, one_of(RULES)]
        \"\"\"Learning rules, one or several.\"\"\"
        hidden: Annotated[tuple[int, ...] | None, at_least(1)] = None
        \"\"\"Units of each hidden layer.\"\"\"

A field is an int, float, str, bool or Path, several of them in a tuple, or None where it is not
given. The requirements next to its type are checked whenever such an object is made, of a list
element by element, of None never: settings that exist are valid. Every requirement says itself
what it allows, and one function turns that into the one line of a usage error.

Values come in layers: the program's defaults, a preset or a study file, the command line.
`settings_from` puts them together, the last one wins.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.requirements import Requirement

# Marks a field that is given by its place on the command line, not by a flag.
IN_PLACE = "in place"


# Fields


class Setting(NamedTuple):
    """A field of settings.

    flag:     as on the command line, or the field's name in capitals where it has no flag
    kind:     int, float, str, bool or Path
    several:  whether it takes a list
    group:    the class that declares it first
    """

    name: str
    flag: str
    kind: type
    several: bool
    in_place: bool
    requirements: tuple[Requirement, ...]
    default: Any
    group: type


def flag_of(name: str) -> str:
    """Return the flag of a field: `lambda_` is --lambda, `head_step` is --head-step."""
    return "--" + name.strip("_").replace("_", "-")


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return hint


_known: dict[type, dict[str, Setting]] = {}


def setting_fields(kind: type) -> dict[str, Setting]:
    """Return {name: setting} of a dataclass of settings, in their order."""
    if kind not in _known:
        _known[kind] = _read_fields(kind)
    return _known[kind]


def _read_fields(kind: type) -> dict[str, Setting]:
    hints = typing.get_type_hints(kind, include_extras=True)
    groups = {name: each for each in kind.__mro__ for name in vars(each).get("__annotations__", {})}
    found = {}
    for field in fields(kind):
        annotated = typing.get_origin(hints[field.name]) is Annotated
        whole, *extras = typing.get_args(hints[field.name]) if annotated else (hints[field.name],)
        hint = _without_none(whole)
        is_list = typing.get_origin(hint) is tuple
        placed = IN_PLACE in extras
        found[field.name] = Setting(
            field.name,
            field.name.upper() if placed else flag_of(field.name),
            typing.get_args(hint)[0] if is_list else hint,
            is_list,
            placed,
            tuple(each for each in extras if each is not IN_PLACE),
            field.default,
            groups[field.name],
        )
    return found


def check_setting(setting: Setting, value: Any) -> None:
    """Raise UsageError where a value, or one of its elements, does not meet a requirement."""
    if value is None:
        return
    for requirement in setting.requirements:
        once = requirement.whole or not setting.several
        for each in (value,) if once else value:
            if objection := requirement.objection(each):
                raise UsageError(setting.flag + objection)


@dataclass(frozen=True, kw_only=True)
class CheckedSettings:
    """Settings whose values meet the requirements of their fields.

    program:     the command that takes them
    may_differ:  fields that a resumed run may be given anew
    """

    program: ClassVar[str] = ""
    may_differ: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def description(cls) -> str:
        """Return what the help page says of the program."""
        return inspect.cleandoc(cls.__doc__ or "")

    def __post_init__(self) -> None:
        """Check every field. What concerns several fields is checked by the class that has them."""
        for name, setting in setting_fields(type(self)).items():
            check_setting(setting, getattr(self, name))


AnySettings = TypeVar("AnySettings", bound=CheckedSettings)


def settings_from(kind: type[AnySettings], *layers: Mapping[str, Any]) -> AnySettings:
    """Make settings of layers {field: value}, of which later ones replace earlier ones.

    Raises UsageError for a field that is in no layer and has no default, and for a value that is
    not allowed.
    """
    values = {name: value for layer in layers for name, value in layer.items()}
    known = setting_fields(kind)
    missing = [
        setting.flag
        for name, setting in known.items()
        if name not in values and setting.default is MISSING
    ]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given; see --help")
    return kind(**values)


# From text to values


def read_number(text: str) -> float:
    """Read a number, or a power of two numbers such as 2^-3; ValueError for anything else.

    ∞ is read too, as the tables of a study print it.
    """
    base, power, exponent = text.partition("^")
    if not power:
        return float(text.replace("∞", "inf"))
    try:
        value = float(base) ** int(exponent)
    except (OverflowError, ZeroDivisionError) as error:
        raise ValueError(str(error)) from None
    if value == 0 != float(base):
        raise ValueError(f"{text} is too small for a float64")
    return value


_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (read_number, "a number"),
    str: (str, "a text"),
    Path: (Path, "a path"),
}


def _number_meant(kind: type, text: str) -> str:
    """Return "; did you mean 10000?" for 1e4 or 10,000 as a whole number, and 0.1 for 0,1."""
    plain = text.replace(",", "" if kind is int else ".")
    try:
        value = float(plain)
    except ValueError:
        return ""
    if kind is int:
        return f"; did you mean {value:.0f}?" if value.is_integer() else ""
    return f"; did you mean {plain}?" if kind is float else ""


def value_of(setting: Setting, texts: Sequence[str]) -> Any:
    """Return the value of a field that was given in words; UsageError for what it is not."""
    read, kind = _READERS[setting.kind]
    if not setting.several and len(texts) != 1:
        raise UsageError(f"{setting.flag} takes one value, not {len(texts)}")
    values = []
    for text in texts:
        try:
            values.append(read(text))
        except ValueError:
            meant = _number_meant(setting.kind, text)
            raise UsageError(f"{setting.flag} {text!r} is not {kind}{meant}") from None
    return tuple(values) if setting.several else values[0]


def plain_value(setting: Setting, value: Any) -> Any:
    """Return the value of a field that a file gives in plain values, not in words.

    Raises UsageError for what it is not, such as a truth value in place of a number.
    """
    if isinstance(value, dict):
        raise UsageError(f"{setting.name!r} is a table; give a value or a list")
    items = value if isinstance(value, list) else [value]
    if setting.kind is bool or any(isinstance(item, bool | list | dict) for item in items):
        if setting.kind is bool and isinstance(value, bool):
            return value
        kind = "true or false" if setting.kind is bool else _READERS[setting.kind][1]
        raise UsageError(f"{setting.flag} {str(value).lower()} is not {kind}")
    return value_of(setting, [str(item) for item in items])


# Flags without effect


class Idle(NamedTuple):
    """Settings that change nothing, and why, as it follows "has no effect" in a line."""

    names: Iterable[str]
    why: str


def changed(settings: CheckedSettings, name: str) -> str:
    """Return a setting as flag and value where it is not at its default, else ""."""
    setting, value = setting_fields(type(settings))[name], getattr(settings, name)
    if value == setting.default or value is None:
        return ""
    words = value if setting.several else () if value is True else (value,)
    return " ".join([setting.flag, *map(str, words)])


def idle_flags(settings: CheckedSettings, idle: Iterable[Idle]) -> dict[str, str]:
    """Return {name: a line that says so} of the settings that were changed without effect."""
    found: dict[str, str] = {}
    for names, why in idle:
        for name in names:
            if (shown := changed(settings, name)) and name not in found:
                found[name] = f"{shown} has no effect {why}"
    return found


def check_effects(settings: CheckedSettings, idle: Iterable[Idle]) -> None:
    """Raise UsageError for the first setting that was changed without effect."""
    for line in idle_flags(settings, idle).values():
        raise UsageError(line)
