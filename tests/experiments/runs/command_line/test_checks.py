import sys

import pytest

from experiments.runs.command_line.checks import (
    UsageError,
    check_choice,
    in_words,
    load_part,
    nearest,
    suggestion,
)


def test_the_likest_names_come_first():
    rules = ["td", "tdc", "tdrc", "generalized", "gtd2"]
    assert nearest("genralised", rules) == ["generalized"]
    assert nearest("TDRC", rules)[0] == "tdrc"
    assert nearest("xyz", rules) == []


def test_the_same_word_is_no_suggestion():
    assert suggestion("td", ["td"]) == ""
    assert suggestion("td", ["td", "tdc"]) == "; did you mean tdc?"
    assert suggestion("a" * 300, ["td", "tdc"]) == ""


def test_a_choice_is_refused_with_all_that_is_allowed_and_the_nearest():
    assert check_choice("--rule", "td", ["td", "tdc"]) == "td"
    with pytest.raises(UsageError) as caught:
        check_choice("--rule", "tdx", ["td", "boyan"])
    assert str(caught.value) == "--rule 'tdx' is not one of td, boyan; did you mean td?"
    with pytest.raises(UsageError, match=r"^--rule 'qqq' is not one of td, boyan$"):
        check_choice("--rule", "qqq", ["td", "boyan"])


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


def test_a_part_without_a_name_has_that_of_its_attribute(here):
    text = "import functools\ncut = lambda: 5\npart = functools.partial(max, 3)\n"
    (here / "nameless_parts.py").write_text(text + "def whole():\n    return 1\nother = whole\n")
    specs = [f"nameless_parts:{name}" for name in ("cut", "part", "other")]
    found = [load_part(spec, "--problem") for spec in specs]
    assert [part.__name__ for part in found] == ["cut", "part", "whole"]
    assert (found[0](), found[1](7)) == (5, 7)


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain\n  words", "plain words"),
        (
            "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x2)\nException raised from meta "
            "at /pytorch/aten/src/ATen/native/Blas.cpp:1 (most recent call first)\nframe #0: c10",
            "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x2)",
        ),
        (
            "[enforce fail at inline_container.cc:358] . failed finding central directory\nframe "
            "#0: c10::ThrowEnforceNotMet(char const*)",
            "failed finding central directory",
        ),
        (
            "it failed: RuntimeError: The following operation failed in the TorchScript "
            "interpreter.\nTraceback of TorchScript (most recent call last):\n  File x\n    return "
            "self.net(seen)\n           ~~~~ <--- HERE\nRuntimeError: sizes do not match\n",
            "it failed: RuntimeError: sizes do not match",
        ),
        ("w" * 700, "w" * 599 + "…"),
    ],
)
def test_a_message_has_no_internals_of_torch(text, said):
    assert in_words(RuntimeError(text)) == said
