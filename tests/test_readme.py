"""The README's Python, run as it stands, and its promises about files."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from neural_tdc import step

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.startswith(("import", "from"))])
def test_an_example_of_the_readme_runs(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "print(" not in block or capsys.readouterr().out


def statements(function):
    """Return what a function does, line by line and in order, without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return [ast.unparse(statement) for statement in body]


def test_algorithm_1_in_the_readme_is_the_code_that_runs():
    (shown,) = [block for block in BLOCKS if block.startswith("def step(")]
    (promised,) = ast.parse(shown).body
    (runs,) = ast.parse(inspect.getsource(step)).body
    assert statements(promised) == statements(runs)
    assert [each.arg for each in promised.args.args] == [each.arg for each in runs.args.args]


def test_files_that_the_readme_links_to_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
