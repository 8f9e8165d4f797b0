"""Settings as data: requirements, layers, words and plain values, flags without effect."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import pytest

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import FolderSettings, stored
from experiments.runs.command_line.requirements import (
    above,
    at_least,
    between,
    count,
    from_to,
    one_of,
    read_by,
    several,
)
from experiments.runs.command_line.settings import (
    CheckedSettings,
    Idle,
    check_effects,
    idle_flags,
    plain_value,
    read_number,
    setting_fields,
    settings_from,
    value_of,
)


def _even(numbers):
    if sum(numbers) % 2:
        raise ValueError("their sum is odd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrySettings(CheckedSettings):
    """Try settings."""

    rule: Annotated[tuple[str, ...], several, one_of(("td", "boyan"))]
    body: Annotated[str, one_of(("mlp",), own=True)] = "mlp"
    runs: Annotated[int, count(1)] = 10
    width: Annotated[int, count(2, 512)] = 64
    hidden: Annotated[tuple[int, ...] | None, read_by(_even, whole=True), count(1)] = None
    body_step: Annotated[float, at_least(0)] = 0.1
    tolerance: Annotated[float, above(0)] = 0.1
    gamma: Annotated[float | None, from_to(0, 1)] = None
    part: Annotated[float, between(0, 1)] = 0.5
    data: Path | None = None
    resume: bool = False


def made(**values):
    return TrySettings(**{"rule": ("td",), **values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"rule": ("td", "tdx")},
            "--rule 'tdx' is not one of td, boyan; did you mean td?",
        ),
        ({"rule": ("qqq",)}, "--rule 'qqq' is not one of td, boyan"),
        ({"rule": ()}, "--rule is given without a value; give one or several"),
        ({"rule": ("td", "boyan", "td")}, "--rule names td 2 times; give each once"),
        ({"body": "mpl"}, "--body 'mpl' is not one of mlp or module:function; did you mean mlp?"),
        ({"runs": 0}, "--runs 0 is not allowed: give a whole number of at least 1"),
        ({"runs": -3}, "--runs -3 is not allowed: give a whole number of at least 1"),
        ({"runs": 10**20}, "at most 9007199254740992"),
        ({"width": 1}, "--width 1 is not allowed: give a whole number of at least 2"),
        ({"width": 513}, "--width 513 is not allowed: give a whole number of at most 512"),
        ({"hidden": (4, 0)}, "--hidden 0 is not allowed: give a whole number of at least 1"),
        ({"hidden": (4, 3)}, "--hidden 4 3: their sum is odd"),
        ({"body_step": -1e-3}, "--body-step -0.001 is not allowed: give a finite number of at "),
        ({"body_step": math.nan}, "--body-step nan is not allowed: give a finite number of at "),
        ({"body_step": math.inf}, "--body-step inf is not allowed: give a finite number of at "),
        ({"tolerance": 0.0}, "--tolerance 0 is not allowed: give a finite number above 0"),
        ({"gamma": 1.01}, "--gamma 1.01 is not allowed: give a number from 0 to 1"),
        ({"gamma": -0.01}, "--gamma -0.01 is not allowed: give a number from 0 to 1"),
        ({"gamma": math.nan}, "--gamma nan is not allowed: give a number from 0 to 1"),
        ({"part": 1.0}, "--part 1 is not allowed: give a number between 0 and 1"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_line_that_says_what_is(values, said):
    with pytest.raises(UsageError) as caught:
        made(**values)
    assert said in str(caught.value)
    assert str(caught.value).startswith("--")


def test_the_ends_of_what_is_allowed_are_allowed():
    settings = made(runs=1, width=512, body_step=0.0, tolerance=1e-9, gamma=1.0, body="my:own")
    assert dataclasses.replace(settings, gamma=0.0, width=2).gamma == 0.0
    assert made(gamma=None, hidden=None).hidden is None


def test_settings_that_exist_stay_valid():
    settings = made()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.runs = 0
    with pytest.raises(UsageError, match="--runs 0 is not allowed"):
        dataclasses.replace(settings, runs=0)


def test_later_layers_replace_earlier_ones():
    settings = settings_from(
        TrySettings, {"runs": 1, "width": 8}, {"rule": ("td",), "runs": 2}, {"runs": 3}
    )
    assert (settings.runs, settings.width, settings.part) == (3, 8, 0.5)
    with pytest.raises(UsageError, match=r"^--rule must be given; see --help$"):
        settings_from(TrySettings, {"runs": 1})


@pytest.mark.parametrize(
    ("text", "expected"), [("2^-2", 0.25), ("10^3", 1000.0), ("1e-3", 0.001), ("inf", math.inf)]
)
def test_a_number_may_be_written_as_a_power(text, expected):
    assert read_number(text) == expected
    assert value_of(setting_fields(TrySettings)["body_step"], [text]) == expected


@pytest.mark.parametrize(
    "text", ["2^", "^2", "2^0.5", "two", "", "2^9999", "2^-9999", "0^-1", "2^3^4"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UsageError) as caught:
        value_of(setting_fields(TrySettings)["body_step"], [text])
    assert str(caught.value) == f"--body-step {text!r} is not a number"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("runs", True, "--runs true is not a whole number"),
        ("runs", 1.5, "--runs '1.5' is not a whole number"),
        ("runs", [1, 2], "--runs takes one value, not 2"),
        ("runs", [[1]], "is not a whole number"),
        ("runs", {"a": 1}, "'runs' is a table; give a value or a list"),
        ("resume", 1, "--resume 1 is not true or false"),
        ("resume", "true", "--resume true is not true or false"),
        ("hidden", [1, False], "is not a whole number"),
    ],
)
def test_what_a_file_gives_has_the_type_of_the_field(name, value, said):
    with pytest.raises(UsageError) as caught:
        plain_value(setting_fields(TrySettings)[name], value)
    assert said in str(caught.value)


def test_a_file_gives_plain_values():
    known = setting_fields(TrySettings)
    assert plain_value(known["runs"], 3) == 3
    assert plain_value(known["rule"], "td") == ("td",)
    assert plain_value(known["hidden"], [4, 2]) == (4, 2)
    assert plain_value(known["body_step"], "2^-1") == 0.5
    assert plain_value(known["resume"], True) is True
    assert plain_value(known["data"], "a/b") == Path("a/b")


def test_only_what_was_changed_is_said_to_have_no_effect():
    idle = [Idle(("runs", "hidden"), "with --body x"), Idle(("resume", "runs"), "at all")]
    assert idle_flags(made(), idle) == {}
    found = idle_flags(made(runs=3, hidden=(4, 2), resume=True), idle)
    assert found == {
        "runs": "--runs 3 has no effect with --body x",
        "hidden": "--hidden 4 2 has no effect with --body x",
        "resume": "--resume has no effect at all",
    }
    check_effects(made(), idle)
    with pytest.raises(UsageError, match=r"^--hidden 4 2 has no effect with --body x$"):
        check_effects(made(hidden=(4, 2)), idle)


def test_a_run_is_not_both_continued_and_replaced():
    with pytest.raises(UsageError, match="--resume and --overwrite exclude each other"):
        FolderSettings(resume=True, overwrite=True)


def test_where_a_run_is_kept_is_not_compared_on_resume():
    assert stored(FolderSettings(out=Path("a"), resume=True)) == {}
