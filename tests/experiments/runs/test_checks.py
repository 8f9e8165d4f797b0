import math
import sys

import pytest
import torch

from experiments.runs.checks import (
    UsageError,
    check_choice,
    check_fraction,
    check_integer,
    check_positive,
    check_positive_integer,
    check_several,
    check_step_size,
    load_part,
    nearest,
    resolve_device,
)


def test_the_likest_names_come_first():
    rules = ["td", "tdc", "tdrc", "generalized", "gtd2"]
    assert nearest("genralised", rules) == ["generalized"]
    assert nearest("TDRC", rules)[0] == "tdrc"
    assert nearest("xyz", rules) == []


def test_a_choice_is_refused_with_all_that_is_allowed_and_the_nearest():
    assert check_choice("--rule", "td", ["td", "tdc"]) == "td"
    with pytest.raises(UsageError) as caught:
        check_choice("--rule", "tdx", ["td", "boyan"])
    assert str(caught.value) == "--rule 'tdx' is not one of td, boyan; did you mean td?"
    with pytest.raises(UsageError, match=r"^--rule 'qqq' is not one of td, boyan$"):
        check_choice("--rule", "qqq", ["td", "boyan"])


@pytest.mark.parametrize("value", [0, -3])
def test_a_positive_integer_is_at_least_one(value):
    assert check_positive_integer("--runs", 1) == 1
    with pytest.raises(UsageError, match=f"--runs {value} is not allowed.* at least 1"):
        check_positive_integer("--runs", value)


def test_integers_have_the_bounds_that_are_said():
    assert check_integer("--seed", 0, 0) == 0
    with pytest.raises(UsageError, match=r"--seed -1 .* at least 0"):
        check_integer("--seed", -1, 0)
    with pytest.raises(UsageError, match="at most 9007199254740992"):
        check_integer("--steps", 10**20, 1)


def test_a_step_size_may_be_zero_and_a_positive_number_may_not():
    assert check_step_size("--body-step", 0.0) == 0.0
    for value in (-1e-3, math.nan, math.inf):
        with pytest.raises(UsageError, match=f"--body-step {value} is not allowed"):
            check_step_size("--body-step", value)
    with pytest.raises(UsageError, match="--ridge 0 is not allowed: give a finite number above 0"):
        check_positive("--ridge", 0.0)
    assert check_positive("--ridge", 1e-9) == 1e-9


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_a_fraction_lies_between_zero_and_one(value):
    assert (check_fraction("--gamma", 0.0), check_fraction("--gamma", 1.0)) == (0.0, 1.0)
    with pytest.raises(UsageError, match=r"--gamma .* give a number from 0 to 1"):
        check_fraction("--gamma", value)


def test_several_values_are_at_least_one_and_none_twice():
    assert check_several("--rule", ("td", "tdc")) == ("td", "tdc")
    with pytest.raises(UsageError, match="--rule is given without a value"):
        check_several("--rule", ())
    with pytest.raises(UsageError, match="--rule names td 2 times"):
        check_several("--rule", ("td", "tdc", "td"))


def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"^--device cuda cannot be used: .*; use --device cpu or"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(UsageError, match="--device 'gpu' is not one of auto, cpu, cuda"):
        resolve_device("gpu")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_part_of_the_users_own_is_found_in_the_current_folder(here):
    (here / "my_parts.py").write_text("def policy(n):\n    return n + 1\n")
    assert load_part("my_parts:policy", "--policy")(2) == 3
    (here / "pack").mkdir()
    (here / "pack" / "inner.py").write_text("def f():\n    return 'inner'\n")
    assert load_part("pack.inner:f", "--body")() == "inner"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("my_parts", "'my_parts' is not of the form module:function"),
        (":policy", "is not of the form"),
        ("my_parts:", "is not of the form"),
        ("my parts:f", "is not of the form"),
        ("../x:f", "is not of the form"),
        ("no_such_parts:f", "no module no_such_parts in "),
        ("no_such.parts:f", "no module no_such in "),
        ("my_parts:polcy", "my_parts has no polcy; did you mean policy?"),
        ("my_parts:zzzzzz", "my_parts has no zzzzzz"),
        ("my_parts:number", "number is of type int, not a function"),
        (
            "needs_more:f",
            "importing needs_more failed with ModuleNotFoundError: No module named 'q",
        ),
        ("broken:f", "importing broken failed with SyntaxError: "),
        ("fails:f", "importing fails failed with RuntimeError: two lines"),
        ("leaves:f", "importing leaves failed with SystemExit: 3"),
    ],
)
def test_a_part_that_cannot_be_had_is_one_line(here, spec, said):
    (here / "my_parts.py").write_text("number = 3\ndef policy(n):\n    return n\n")
    (here / "needs_more.py").write_text("import qqq_not_there\n")
    (here / "broken.py").write_text("def f(:\n")
    (here / "fails.py").write_text("raise RuntimeError('two\\nlines')\n")
    (here / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(UsageError) as caught:
        load_part(spec, "--policy")
    assert str(caught.value).startswith("--policy ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
