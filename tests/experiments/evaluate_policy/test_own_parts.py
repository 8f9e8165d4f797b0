"""The examples of docs/own-parts.md, run as they stand but for the sizes."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from experiments.evaluate_policy.__main__ import evaluate_policy
from experiments.runs.command_line import main

PAGE = Path(__file__).parents[3] / "docs" / "own-parts.md"
TINY = "--steps 20 --runs 2 --measure-every 10 --compile off"
GYMNASIUM = "--truth-states 3 --truth-rollouts 2 --held-out 30"


def examples():
    """Return the page's Python as one module and its command lines."""
    text = PAGE.read_text(encoding="utf-8")
    python = "\n\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^    python -m experiments\.evaluate_policy (.*)$", joined, re.MULTILINE)
    return python, lines


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Put the page's module where a user would have it."""
    (tmp_path / "mine.py").write_text(examples()[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield importlib.import_module("mine")
    sys.modules.pop("mine", None)


def test_the_page_has_an_example_for_every_part():
    _, lines = examples()
    named = set(re.findall(r"(--[a-z]+) mine:", "\n".join(lines)))
    assert named == {"--problem", "--policy", "--behaviour", "--body", "--rule"}


@pytest.mark.parametrize("line", examples()[1])
def test_an_example_runs_as_it_stands(mine, line, capfd):
    flags = f"{TINY} {'' if 'mine:ring' in line else GYMNASIUM}"
    assert main(evaluate_policy, shlex.split(f"{line} {flags}")) == 0, capfd.readouterr().err
    out = Path(shlex.split(line)[shlex.split(line).index("--out") + 1])
    assert (out / "figure.png").exists()


def test_the_result_is_shown_and_its_network_is_a_plain_state_dict(mine, capsys):
    line = "--problem CartPole-v1 --rule td --out runs/lean"
    assert main(evaluate_policy, shlex.split(f"{line} {TINY} {GYMNASIUM}")) == 0
    capsys.readouterr()
    mine.show("runs/lean")
    assert capsys.readouterr().out.startswith("tensor([")
    state = torch.load("network.pt", weights_only=True)
    assert {name.split(".")[0] for name in state} == {"0", "1", "2"}
