"""Presets: settings by name, which give way to what a command line says itself."""

import json

import pytest

from experiments.evaluate_policy.presets import PRESETS
from experiments.evaluate_policy.settings import read_evaluation_settings
from experiments.runs.checks import UsageError
from experiments.runs.settings import flag_of

TINY = "--problem garnet --steps 6 --runs 2 --measure-every 3"


def flags_of(name):
    return " ".join(
        f"{flag_of(field)} {value[0] if isinstance(value, tuple) else value}"
        for field, value in PRESETS[name].items()
    )


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_run_of_its_flags(evaluate, tmp_path, name):
    assert evaluate(f"{TINY} --preset {name} --out named").status == 0
    assert evaluate(f"{TINY} {flags_of(name)} --out spelled").status == 0
    named, spelled = ((tmp_path / out / "metrics.csv").read_bytes() for out in ("named", "spelled"))
    assert named == spelled
    assert settings_of(tmp_path / "named")["preset"] == name
    assert settings_of(tmp_path / "spelled")["preset"] is None


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
    assert "--preset 'onpolicy' is not one of on-policy, off-policy" in outcome.error


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
