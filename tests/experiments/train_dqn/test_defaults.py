"""The defaults of deep Q-learning by kind of problem, and what the flags' help says of them."""

import ast
import inspect
import re

import pytest

from experiments.train_dqn.defaults import DEFAULTS, defaults
from experiments.train_dqn.settings import CommonSettings


def helps():
    """Return {field: what stands below it in the source, which --help shows}."""
    (definition,) = ast.parse(inspect.getsource(CommonSettings)).body
    pairs = zip(definition.body, definition.body[1:])
    return {
        field.target.id: text.value.value
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
    }


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_help_of_a_flag_says_its_three_defaults(name):
    *_, said = re.findall(r"\(([^()]*)\)", helps()[name])
    shown = [part.replace(",", "") for part in re.split("; " if ";" in said else ", ", said)]
    known = [float(part) if part[0].isdigit() else part for part in shown]
    assert known == list(DEFAULTS[name])
    assert getattr(CommonSettings(), name) is None


@pytest.mark.parametrize(
    ("problem", "steps", "network"),
    [
        ("ALE/Pong-v5", 1_000_000, "paper"),
        ("MinAtar/Breakout", 300_000, "paper"),
        ("CartPole-v1", 50_000, "mlp"),
    ],
)
def test_a_problem_has_the_defaults_of_its_kind(problem, steps, network):
    found = defaults(problem)
    assert (found["steps"], found["network"]) == (steps, network)
    assert found.keys() == DEFAULTS.keys()
