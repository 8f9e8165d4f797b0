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
from neural_tdc import RULES, Parameters, Transition, evaluate
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import BODY_ROWS, HEAD_ROWS

PAGE = Path(__file__).parents[3] / "docs" / "own-parts.md"
REGISTRY = Path("neural_tdc") / "rules" / "registry.py"
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


def test_the_head_of_the_page_goes_with_every_body_after_its_line(mine, monkeypatch):
    page, rows = (path.read_text(encoding="utf-8") for path in (PAGE, PAGE.parents[1] / REGISTRY))
    (diff,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    context = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] == " ")
    assert context in rows
    monkeypatch.setitem(HEAD_ROWS, "scaled", mine.ScaledTdHead())
    torch.manual_seed(0)
    stream = Transition(*torch.randn(5, 40, 3).double())._replace(
        **{
            name: torch.full((40,), 0.9, dtype=torch.float64)
            for name in ("reward", "discount", "ratio")
        }
    )
    for body in BODY_ROWS:
        rule = RULES[f"{body}+scaled"].with_settings(scale_decay=0.5)
        assert {"ridge", "scale_decay"} <= rule.settings
        assert evaluate(stream, rule=rule, steps=20).value(stream.observation).isfinite().all()
    # Given features, θ = 0: δ = r = 0.9, and the mean squares are ½(1 + 0.81) and half on the way.
    rule = RULES["frozen+scaled"].with_settings(scale_decay=0.5)
    parameters, state = rule.init(
        Parameters({}, torch.zeros(3).double(), {}), stream.observation, torch.Generator()
    )
    for square in (0.905, 0.8575):
        state = rule.update(given_features, parameters, stream, state)
        assert float(state.head["square"]) == pytest.approx(square, abs=1e-15)
    directions = rule.directions(given_features, parameters, stream, state)
    expected = -0.81 / 0.8575**0.5 * stream.observation.mean(0)
    assert torch.allclose(directions.head, expected, rtol=1e-13)


def test_the_result_is_shown_and_its_network_is_a_plain_state_dict(mine, capsys):
    line = "--problem CartPole-v1 --rule td --out runs/lean"
    assert main(evaluate_policy, shlex.split(f"{line} {TINY} {GYMNASIUM}")) == 0
    capsys.readouterr()
    mine.show("runs/lean")
    assert capsys.readouterr().out.startswith("tensor([")
    state = torch.load("network.pt", weights_only=True)
    assert {name.split(".")[0] for name in state} == {"0", "1", "2"}
