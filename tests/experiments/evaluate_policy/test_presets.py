"""Presets: settings by name, which give way to what a command line says itself."""

import json

import pytest

from experiments.evaluate_policy.presets import PRESETS, with_preset
from experiments.runs.command_line import UsageError

TINY = "--problem garnet --steps 6 --runs 2 --measure-every 3"


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_run_of_its_flags(evaluate, tmp_path, name):
    flags = " ".join(part for flag, values in PRESETS[name].items() for part in (flag, *values))
    assert evaluate(f"{TINY} --preset {name} --out named").status == 0
    assert evaluate(f"{TINY} {flags} --out spelled").status == 0
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
    flags = " ".join(
        part for flag, values in PRESETS["on-policy"].items() for part in (flag, *values)
    )
    longer = TINY.replace("--steps 6", "--steps 9")
    assert evaluate(f"{longer} {flags} --out run --resume").status == 0


def test_an_unknown_preset_is_refused_with_the_nearest_name(evaluate):
    outcome = evaluate(f"{TINY} --preset onpolicy --out run")
    assert outcome.status == 2
    assert "--preset 'onpolicy' is not one of on-policy, off-policy" in outcome.error
    with pytest.raises(UsageError):
        with_preset(["--preset=best"])


def test_without_a_preset_a_line_stays_as_it_is():
    assert with_preset(["--rule", "td"]) == ["--rule", "td"]
    # A value that is missing is told by the parser, and help is given whatever else stands there.
    for line in (["--preset"], ["--preset", "--seed", "1"], ["--preset", "none", "--help"]):
        assert with_preset(line) == line
