"""The examples of own-parts.md, parts-by-name.md and policies.md, run with smaller sizes."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.evaluate_policy.parts.plan import evaluation_plan
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from experiments.runs.command_line.checks import UsageError
from neural_tdc import RULES, Parameters, Transition, evaluate
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import BODY_ROWS, HEAD_ROWS

PAGE = Path(__file__).parents[4] / "docs" / "own-parts.md"
BY_NAME = PAGE.with_name("parts-by-name.md")
PAGES = {"parts": PAGE, "policies": PAGE.parent / "guide" / "policies.md"}
REGISTRY = Path("neural_tdc") / "rules" / "registry.py"
TINY = "--steps 20 --runs 2 --measure-every 10 --compile off"
GYMNASIUM = "--truth-states 3 --truth-rollouts 2 --held-out 30"


def examples(module):
    """Return the Python of a module's page and the page's command lines that name the module."""
    text = PAGES[module].read_text(encoding="utf-8")
    python = "\n\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^    python -m experiments\.evaluate_policy (.*)$", joined, re.MULTILINE)
    return python, [line for line in lines if f"{module}:" in line]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Put the modules of the pages where a user would have them."""
    for module in PAGES:
        (tmp_path / f"{module}.py").write_text(examples(module)[0], encoding="utf-8")
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("parts")
    for module in PAGES:
        sys.modules.pop(module, None)


LINES = [line for module in PAGES for line in examples(module)[1]]


def test_the_pages_have_an_example_for_every_part():
    named = set(re.findall(r"(--[a-z]+) \w+:", "\n".join(LINES)))
    assert named == {"--problem", "--policy", "--behaviour", "--body", "--rule"}


@pytest.mark.parametrize("line", LINES)
def test_an_example_runs_as_it_stands(mine, evaluate, line):
    sizes = "--steps 20 --updates 5" if "lstd-random fitted" in line else TINY
    flags = f"{sizes} {'' if 'parts:ring' in line else GYMNASIUM}"
    outcome = evaluate(f"{line} {flags}")
    assert outcome.status == 0, outcome.error
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


def test_a_rule_of_the_page_takes_the_flags_that_it_has_and_keeps_the_rest(mine, monkeypatch):
    monkeypatch.setattr(
        mine,
        "scaled",
        lambda: mine.neural_tdc.compose(mine.SemiGradientBody(), mine.ScaledTdHead(ridge=0.5)),
    )
    for flags, ridge in (("--ridge 0.25", 0.25), ("--head-step 0.1", 0.5)):
        line = f"--problem parts:ring --rule parts:scaled {flags}"
        (rule,) = evaluation_plan(read_evaluation_settings(shlex.split(line))).rules.values()
        assert rule.head == mine.ScaledTdHead(ridge=ridge)
    with pytest.raises(UsageError, match=r"^--epsilon 0\.1 has no effect"):
        evaluation_plan(read_evaluation_settings([*shlex.split(line), "--epsilon", "0.1"]))


def test_the_result_is_shown_and_its_network_is_a_plain_state_dict(mine, evaluate, capsys):
    line = "--problem CartPole-v1 --rule td --out runs/lean"
    assert evaluate(f"{line} {TINY} {GYMNASIUM}").status == 0
    mine.show("runs/lean")
    assert capsys.readouterr().out.startswith("tensor([")
    state = torch.load("network.pt", weights_only=True)
    assert {name.split(".")[0] for name in state} == {"0", "1", "2"}


FLOORS = ("neural_tdc", "envs", "agents", "experiments")
# What a stranger tries in the copy: the page's line, a study by the new metric, and the names.
TRIED = """
import sys
from experiments.evaluate_policy.__main__ import evaluate_policy
from experiments.evaluate_policy.parts.plan import evaluation_plan
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import main
from envs.problems import problem_names
from experiments.sweep.running.build import selectable

print("queue" in problem_names(), "final_bias" in selectable())
sys.exit(main(evaluate_policy, sys.argv[1:]))
"""


def applied(text, diff):
    """Return a text with the lines that a diff adds; its hunks are divided by @@."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] == " ")
        assert text.count(before) == 1, before
        text = text.replace(before, "".join(f"{line[1:]}\n" for line in lines))
    return text


def test_a_problem_a_metric_and_a_sampling_scheme_are_one_file_and_one_line_each(tmp_path):
    clone, page = PAGE.parents[1], BY_NAME.read_text(encoding="utf-8")
    for floor in FLOORS:
        shutil.copytree(
            clone / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__")
        )
    files = re.findall(r'```py\n("""([\w/]+\.py): .*?)```', page, re.DOTALL)
    diffs = re.findall(r"```diff\n--- ([\w/]+\.py)\n(.*?)```", page, re.DOTALL)
    assert len(files) == len(diffs) == 3
    for content, path in files:
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content, encoding="utf-8")
    for path, diff in diffs:
        changed = applied((tmp_path / path).read_text(encoding="utf-8"), diff)
        (tmp_path / path).write_text(changed, encoding="utf-8")
        # The line of the registry, and the import that it needs.
        assert len([line for line in diff.splitlines() if line.startswith("+")]) == 2
    joined = page.replace("\\\n", " ")
    (line,) = re.findall(
        r"^    python -m experiments\.evaluate_policy (.* queue .*)$", joined, re.M
    )
    done = subprocess.run(
        [sys.executable, "-c", TRIED, *shlex.split(f"{line} {TINY} --width 3")],
        cwd=tmp_path,
        # What stands beside the environment, as a wheel that is not installed, stays in reach.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("True True\n")
    assert re.search(r"^rule +mean bias +mean RMSVE", done.stdout, re.MULTILINE)
    summary = json.loads((tmp_path / "runs" / "queue" / "summary.json").read_text())
    for rule in ("td", "tdc"):
        metrics = summary[rule]["metrics"]
        # A mean of differences is at most their root mean square.
        assert 0 < metrics["bias"]["final"]["mean"] <= metrics["rmsve"]["final"]["mean"]
    config = json.loads((tmp_path / "runs" / "queue" / "config.json").read_text())
    assert config["sampling"] == "combined"
