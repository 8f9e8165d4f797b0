import pytest

from experiments.runs.folder.folder_contents import folder_name
from tests.experiments.runs.folder.run_folders import (
    all_prepared,
    make_run,
    make_several,
    prepared,
    refused,
    tree,
)


def test_several_rules_leave_nothing_where_one_of_their_folders_cannot_be_made(
    tmp_path, monkeypatch
):
    original = type(tmp_path).mkdir

    def full(path, *arguments, **named):
        if path.name == "tdc":
            raise OSError(28, "No space left on device")
        return original(path, *arguments, **named)

    monkeypatch.setattr(type(tmp_path), "mkdir", full)
    refused(lambda: all_prepared(tmp_path / "out", ["td", "tdc"]), "No space left")
    assert tree(tmp_path) == {}


def test_several_rules_get_a_folder_each(tmp_path):
    folders = all_prepared(tmp_path / "out", ["td", "mine:rule", "semi_gradient+lstd"])
    assert [folder.name for folder in folders.values()] == ["td", "mine.rule", "semi_gradient+lstd"]
    assert all(folder.is_dir() for folder in folders.values())
    assert folder_name("../x:y") == "...x.y"


def test_several_rules_are_refused_over_a_run_and_replace_it_when_asked(tmp_path):
    out = make_several(tmp_path / "out", ["td", "tdc"])
    (out / "td" / "notes.txt").write_text("mine")
    before = tree(out)
    refused(lambda: all_prepared(out, ["td", "htd"]), "holds a run already")
    assert tree(out) == before
    all_prepared(out, ["td", "htd"], overwrite=True)
    assert tree(out) == {"td": None, "td/notes.txt": b"mine", "htd": None}


def test_one_rule_replaces_several_and_several_replace_one(tmp_path):
    out = make_several(tmp_path / "out", ["td", "tdc"])
    prepared(out, overwrite=True)
    assert tree(out) == {}
    make_run(out)
    all_prepared(out, ["td", "tdc"], overwrite=True)
    assert tree(out) == {"td": None, "tdc": None}


def test_several_rules_do_not_take_a_folder_that_is_not_theirs(tmp_path):
    out = make_several(tmp_path / "out", ["td"])
    (out / "htd").mkdir()
    (out / "htd" / "thesis.tex").write_text("mine")
    before = tree(out)
    refused(lambda: all_prepared(out, ["td", "htd"], overwrite=True), "thesis.tex")
    assert tree(out) == before


def test_several_rules_resume_where_some_have_not_begun(tmp_path):
    out = make_several(tmp_path / "out", ["td", "tdc"])
    for path in (out / "tdc").iterdir():
        path.unlink()
    (out / "tdc").rmdir()
    before = tree(out)
    folders = all_prepared(out, ["td", "tdc"], resume=True)
    assert tree(out) == {**before, "tdc": None}
    assert (folders["td"] / "checkpoint.pt").exists()


def test_other_rules_than_those_of_the_run_are_not_resumed(tmp_path):
    out, single = make_several(tmp_path / "out", ["td", "tdc"]), make_run(tmp_path / "single")
    before = tree(tmp_path)
    for action in (
        lambda: all_prepared(out, ["td", "htd"], resume=True),
        lambda: all_prepared(out, ["td"], resume=True),
        lambda: prepared(out, resume=True),
    ):
        refused(action, "holds a run of td tdc")
    refused(lambda: all_prepared(single, ["td", "tdc"], resume=True), "holds a run of one rule")
    assert tree(tmp_path) == before


def test_a_rule_given_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--rule td td names a rule twice"):
        all_prepared(tmp_path / "out", ["td", "td"])
    assert tree(tmp_path) == {}
