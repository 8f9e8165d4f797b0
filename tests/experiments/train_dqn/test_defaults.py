"""The defaults of deep Q-learning by kind of problem, and what the help page says of them."""

import pytest

from experiments.train_dqn.defaults import DEFAULTS, defaults
from experiments.train_dqn.reading import read_dqn_settings
from experiments.train_dqn.settings import dqn_settings


def shown(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def test_the_help_page_says_the_defaults_of_every_flag_that_has_several(capsys):
    with pytest.raises(SystemExit) as end:
        read_dqn_settings(["--help"])
    assert end.value.code == 0
    page = capsys.readouterr().out
    said = {}
    for name, values in DEFAULTS.items():
        after = " ".join(page[page.index(f"\n  --{name.replace('_', '-')} ") :].split())
        said[name] = after[after.index("(default: ") :].partition(" otherwise)")[0]
        atari, minatar, other = map(shown, values)
        assert said[name].startswith(f"(default: {atari} on Atari")
        assert said[name].endswith(other)
        assert f"{minatar} on MinAtar" in said[name] or minatar in (atari, other)
    assert said["steps"] == "(default: 1,000,000 on Atari, 300,000 on MinAtar, 50,000"
    assert said["batch"] == "(default: 32 on Atari and MinAtar, 64"
    assert said["update_every"] == "(default: 4 on Atari, 2"


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
