"""Study files: what they say, and what is said where they cannot be used."""

import pytest

from experiments.runs.command_line.checks import UsageError
from experiments.sweep.settings.study_file import read_sweep_settings

STUDY = """# a study
problem = ["boyan", "garnet-3"]
rule = ["td", "tdc"]
steps = 40
constant-feature = true
body-steps = ["2^-3", 0.5]

[override."garnet-3"]
steps = 70
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_a_study_file_says_what_the_flags_say(path):
    settings, by_problem = read_sweep_settings(["--study", str(path)])
    assert settings.rule == ("td", "tdc")
    assert settings.constant_feature
    assert settings.body_steps == ("2^-3", "0.5")
    assert {name: own.steps for name, own in by_problem.items()} == {"boyan": 40, "garnet-3": 70}
    assert by_problem["garnet-3"].body_steps == ("2^-3", "0.5")


def test_a_byte_order_mark_is_passed_over(path):
    path.write_text(STUDY, encoding="utf-8-sig")
    settings, _ = read_sweep_settings(["--study", str(path)])
    assert settings.problem == ("boyan", "garnet-3")


def test_the_command_line_comes_before_the_file(path):
    line = [f"--study={path}", "--steps", "9", "--no-constant-feature"]
    settings, by_problem = read_sweep_settings(line)
    assert not settings.constant_feature
    assert {own.steps for own in by_problem.values()} == {9}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "steps = 40",
            "stepps = 40",
            "study.toml, line 4: unknown key 'stepps'; did you mean steps",
        ),
        ("steps = 70", "widht = 7", "study.toml, line 9: unknown key 'widht'; did you mean width"),
        ("steps = 70", "seed = 7", "line 9: 'seed' is common to all problems"),
        (
            'override."garnet-3"',
            'override."grid"',
            "line 8: override for 'grid', which is not one of",
        ),
        ("steps = 40", "steps =", "is not TOML"),
        (
            '"tdc"]',
            '"tdx"]',
            "study.toml, line 3: --rule 'tdx' is not one of tdc, td",
        ),
        (
            "steps = 40",
            'steps = "many"',
            "study.toml, line 4: --steps 'many' is not a whole number",
        ),
        ("steps = 40", "steps = true", "study.toml, line 4: --steps true is not a whole number"),
        ("steps = 40", "steps = 0", "study.toml, line 4: --steps 0 is not allowed"),
        ("steps = 40", "steps = 1.5", "study.toml, line 4: --steps '1.5' is not a whole number"),
        ("steps = 70", "steps = -1", "study.toml, line 9: --steps -1 is not allowed"),
        ("feature = true", "feature = 1", "line 5: --constant-feature 1 is not true or false"),
        ("steps = 40", "steps = {a = 1}", "line 4: 'steps' is a table"),
        ('[override."garnet-3"]', "[override]", "write overrides as a table"),
    ],
)
def test_what_a_study_file_gets_wrong_is_named_with_its_line(path, before, after, said):
    path.write_text(STUDY.replace(before, after))
    with pytest.raises(UsageError) as raised:
        read_sweep_settings(["--study", str(path)])
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("tdd", "--rule 'tdd' is not one of tdc, td, gtd2"),
        ("auto", "--rule 'auto' is not one of tdc, td, gtd2"),
        ("mspbe+emphatic", "--rule: head 'emphatic' is not one of td, vtrace"),
    ],
)
def test_the_refusal_of_a_rule_begins_with_its_flag(rule, said):
    with pytest.raises(UsageError) as raised:
        read_sweep_settings(["--problem", "boyan", "--rule", "td", rule])
    assert str(raised.value).startswith(said)


def test_a_study_without_a_problem_is_refused(path):
    path.write_text("steps = 3")
    with pytest.raises(UsageError, match="--problem must be given, or --study with a file"):
        read_sweep_settings(["--study", str(path)])
