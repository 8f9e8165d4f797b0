"""The defaults of deep Q-learning by kind of problem, and what the help page says of them."""

import pytest

from experiments.train_dqn.defaults import DEFAULTS, defaults
from experiments.train_dqn.settings import dqn_settings, read_dqn_settings


def shown(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def test_the_help_page_says_the_three_defaults_of_every_flag_that_has_them(capsys):
    with pytest.raises(SystemExit) as end:
        read_dqn_settings(["--help"])
    assert end.value.code == 0
    page = capsys.readouterr().out
    for name, values in DEFAULTS.items():
        atari, minatar, other = map(shown, values)
        said = f"(default: {atari} on Atari, {minatar} on MinAtar, {other} otherwise)"
        after = " ".join(page[page.index(f"\n  --{name.replace('_', '-')} ") :].split())
        assert after[after.index("(default:") :].startswith(said)


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
    settings = dqn_settings({"problem": problem, "batch": 7})
    assert {name: getattr(settings, name) for name in found} == {**found, "batch": 7}
