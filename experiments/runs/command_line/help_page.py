"""The help page of a program: every flag with the docstring below its field, and its default."""

import argparse
import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.command_line.requirements import Choice
from experiments.runs.command_line.settings import CheckedSettings, Setting


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


def help_page(
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
            first = re.split(r"\.(?:\s|$)", setting.group.__doc__ or "", maxsplit=1)[0]
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
