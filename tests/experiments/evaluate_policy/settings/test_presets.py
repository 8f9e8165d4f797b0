"""Presets: settings by name, which give way to what a command line says itself."""

import dataclasses
import json

import pytest
import torch

from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from experiments.evaluate_policy.settings.presets import preset_flags
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import flag_of
from neural_tdc import evaluate as evaluate_tensors
from neural_tdc import load_value
from neural_tdc.presets import PRESETS, preset
from neural_tdc.types import mapped

TINY = "--problem garnet --steps 6 --runs 2 --measure-every 3"


def flags_of(name):
    return " ".join(
        " ".join([flag_of(field), *map(str, value if isinstance(value, tuple) else (value,))])
        for field, value in preset_flags(name).items()
    ).replace("--constant-feature True", "--constant-feature")


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_flags_say(name):
    named = read_evaluation_settings(f"{TINY} --preset {name}".split())
    spelled = read_evaluation_settings(f"{TINY} {flags_of(name)}".split())
    assert (named.preset, spelled.preset) == (name, None)
    assert dataclasses.replace(named, preset=None) == spelled


@pytest.mark.parametrize("name", PRESETS)
def test_the_program_and_the_library_learn_the_same_values_by_a_preset(evaluate, tmp_path, name):
    line = "--problem garnet --width 16 --steps 20 --runs 1 --seed 5 --compile off"
    outcome = evaluate(f"{line} --measure-every 20 --preset {name} --out run")
    assert outcome.status == 0, outcome.error
    assert settings_of(tmp_path / "run")["preset"] == name
    mdp = problem("garnet")
    # One transition more, which is held out: a longer stream continues a shorter one.
    stream = mapped(simulate_streams(mdp, 1, 21, 5), lambda leaf: leaf[0])
    states = mdp.observation.float()
    stream = stream._replace(
        observation=states[stream.observation], next_observation=states[stream.next_observation]
    )
    found = evaluate_tensors(stream, **preset(name), steps=20, seed=5, held_out=1e-3)
    expected = found.value(states)
    assert expected.std() > 1e-3
    torch.testing.assert_close(load_value(tmp_path / "run")(states), expected)


@pytest.mark.parametrize(
    "given", ["--rule tdrc", "--body-step=0.25", "--head_step 1", "--auxiliary-step 1"]
)
def test_what_a_preset_settles_is_not_given_beside_it(evaluate, given):
    outcome = evaluate(f"{TINY} {given} --preset on-policy --out run")
    assert outcome.status == 2
    flag = given.replace("=", " ").split()[0].replace("_", "-")
    assert f"{flag} and --preset on-policy exclude each other" in outcome.error


def test_a_run_by_a_preset_is_resumed_by_its_flags_too(evaluate, tmp_path):
    assert evaluate(f"{TINY} --preset on-policy --out run").status == 0
    longer = TINY.replace("--steps 6", "--steps 9")
    assert evaluate(f"{longer} {flags_of('on-policy')} --out run --resume").status == 0


def test_an_unknown_preset_is_refused_with_the_nearest_name(evaluate):
    outcome = evaluate(f"{TINY} --preset onpolicy --out run")
    assert outcome.status == 2
    assert "--preset 'onpolicy' is not one of" in outcome.error
    assert "did you mean on-policy" in outcome.error


def test_a_preset_is_a_layer_below_what_is_given():
    settings = read_evaluation_settings(["--problem", "boyan", "--preset", "on-policy"])
    assert (settings.rule, settings.head_step) == (("td",), 100 * 2**-11)
    assert settings.auxiliary_step is None
    for line in (["--preset"], ["--preset", "--seed", "1"]):
        with pytest.raises(UsageError, match="--preset is given without a value"):
            read_evaluation_settings(line)


def test_help_is_given_whatever_else_is_on_the_line():
    with pytest.raises(SystemExit):
        read_evaluation_settings(["--preset", "none", "--help"])


@pytest.mark.parametrize("name", ["fast", "accurate", "off-policy", "paper"])
def test_a_preset_at_known_scale_learns_alike_in_any_unit_of_rewards(evaluate, own, tmp_path, name):
    source = """
from envs.finite.finite_mdp import finite_mdp

def ring(unit):
    steps = torch.eye(6).roll(1, 1)
    reward = unit * torch.arange(6.0)[:, None, None].expand(6, 1, 6)
    return finite_mdp(steps[:, None], reward, discount=0.9, target=[[1.0]] * 6, name="ring")

def one():
    return ring(1.0)

def many():
    return ring(1024.0)
"""
    module, ends = own(source), []
    for unit in ("one", "many"):
        line = f"--problem {module}:{unit} --preset {name} --steps 40 --runs 2 --compile off"
        assert evaluate(f"{line} --measure-every 40 --out {unit}").status == 0
        summary = json.loads((tmp_path / unit / "summary.json").read_text())
        ends.append(summary["metrics"]["rmsve"]["final"]["mean"])
    assert ends[1] == pytest.approx(1024 * ends[0], rel=1e-4)


def test_a_preset_leaves_its_layers_to_a_body_of_ones_own(evaluate, own, tmp_path):
    module = own("def body(shape):\n    return torch.nn.Linear(*shape, 3)\n")
    line = f"{TINY} --preset fast --body {module}:body --out run"
    outcome = evaluate(line)
    assert outcome.status == 0, outcome.error
    assert settings_of(tmp_path / "run")["hidden"] is None


@pytest.mark.parametrize("given", ["--hidden 8", "--optimizer sgd", "--reward-scale none"])
def test_what_only_a_preset_at_known_scale_settles_is_not_given_beside_it(evaluate, given):
    outcome = evaluate(f"{TINY} {given} --preset accurate --out run")
    assert outcome.status == 2
    assert f"{given.split()[0]} and --preset accurate exclude each other" in outcome.error
