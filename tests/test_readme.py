"""The README's Python, run as it stands, and its promises about files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.startswith(("import", "from"))])
def test_an_example_of_the_readme_runs(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "print(" not in block or capsys.readouterr().out


def test_algorithm_1_in_the_readme_is_the_code_that_runs():
    (shown,) = [block for block in BLOCKS if block.startswith("def step(")]
    source = (ROOT / "neural_tdc" / "learning" / "algorithm.py").read_text(encoding="utf-8")
    missing = [line for line in shown.splitlines()[1:] if line not in source.splitlines()]
    assert missing == []


def test_files_that_the_readme_links_to_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
