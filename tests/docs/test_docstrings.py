"""What every public docstring has."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("neural_tdc", "envs", "agents")
# Any of these words says that a function refuses something.
SAID = ("Error", "raise", "Raise", "refuse")


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST, str]]:
    """Yield (name, what it is, docstring) of public classes, functions and methods."""
    for each in body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef) and each.name[0] != "_":
            yield prefix + each.name, each, ast.get_docstring(each) or ""
            if isinstance(each, ast.ClassDef):
                yield from public(each.body, f"{each.name}.")


def raises(function: ast.AST) -> bool:
    """Tell whether a function has a `raise ValueError` of its own."""
    raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc]
    return any(ast.unparse(each).startswith("ValueError") for each in raised)


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_have_docstrings_which_say_what_they_raise(room):
    bare, silent, count = [], [], 0
    for path in sorted((ROOT / room).rglob("*.py")):
        for name, what, said in public(ast.parse(path.read_text(encoding="utf-8")).body):
            count += 1
            bare += [f"{path}: {name}"] if not said else []
            refuses = isinstance(what, ast.FunctionDef) and raises(what)
            if refuses and not any(word in said for word in SAID):
                silent.append(f"{path}: {name}")
    assert count > 50
    assert bare == []
    assert silent == []
