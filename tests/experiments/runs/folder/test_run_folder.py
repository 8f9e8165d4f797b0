import os
import re

import pytest

from experiments.runs.folder import configuration as module
from experiments.runs.folder.checkpoint import save_checkpoint
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.folder_contents import folder_name, holds_run
from experiments.runs.folder.run_folder import check_folder, prepare_folder
from experiments.runs.folder.same_settings import check_same_settings
from tests.experiments.runs.folder.run_folders import (
    all_prepared,
    make_run,
    make_several,
    prepared,
    refused,
    tree,
)


def begin_and_refuse(folder, kept):
    with prepare_folder(folder) as made:
        make_run(made, kept)
        (made / "parts").mkdir()
        raise ValueError("the problem has no true values")


def test_a_new_run_that_is_refused_before_its_first_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no true values"):
        begin_and_refuse(tmp_path / "runs" / "one", kept=("metrics.csv",))
    assert tree(tmp_path) == {}
    with pytest.raises(ValueError, match="no true values"):
        begin_and_refuse(tmp_path / "runs" / "one", kept=("metrics.csv", "checkpoint.pt"))
    assert holds_run(tmp_path / "runs" / "one")
    assert (tmp_path / "runs/one/checkpoint.pt").exists()


def test_a_new_and_an_empty_folder_are_taken(tmp_path):
    assert prepared(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    prepared(tmp_path / "a" / "b")
    assert tree(tmp_path) == {"a": None, "a/b": None}


def test_a_run_is_refused_and_the_line_says_what_to_do(tmp_path):
    run = make_run(tmp_path / "run")
    before = tree(tmp_path)
    refused(lambda: prepared(run), str(run), "holds a run already", "--resume", "--overwrite")
    assert tree(tmp_path) == before


def test_overwriting_removes_the_files_of_the_run_and_no_other(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "notes.txt").write_text("mine")
    (run / "td").mkdir()
    (run / "td" / "config.json").write_text("mine too")
    (run / "config.json.partial").write_text("left over")
    prepared(run, overwrite=True)
    assert tree(run) == {"notes.txt": b"mine", "td": None, "td/config.json": b"mine too"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["{}", '{"versions": {"node": "1"}}', "[]", "not json"])
def test_somebody_elses_config_is_no_run_and_is_never_removed(tmp_path, overwrite, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "summary.json").write_text("theirs")
    before = tree(tmp_path)
    refused(
        lambda: prepared(tmp_path, overwrite), "files that do not belong to a run", "config.json"
    )
    assert tree(tmp_path) == before


def test_a_folder_of_many_runs_is_not_overwritten_by_one(tmp_path):
    make_run(tmp_path / "first")
    make_several(tmp_path / "second", ["td", "tdc"])
    before = tree(tmp_path)
    refused(lambda: prepared(tmp_path, overwrite=True), "(first, second)")
    refused(lambda: all_prepared(tmp_path, ["td", "tdc"], overwrite=True), "(first, second)")
    assert tree(tmp_path) == before


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(lambda: prepared(tmp_path / "file"), "is a file")
    refused(lambda: prepared(tmp_path / "file" / "run"), "cannot be written: Not a directory")
    assert tree(tmp_path) == {"file": b"x"}


def test_a_place_that_cannot_be_written_is_one_line_and_nothing_stays(tmp_path, monkeypatch):
    refused(lambda: all_prepared("/proc/1" / tmp_path.relative_to("/"), ["td"]), "cannot be")
    original = type(tmp_path).touch

    def read_only(path, *arguments, **named):
        if "deep" in str(path):
            raise PermissionError(13, "Permission denied")
        return original(path, *arguments, **named)

    monkeypatch.setattr(type(tmp_path), "touch", read_only)
    refused(lambda: prepared(tmp_path / "very" / "deep" / "run"), "Permission denied")
    assert tree(tmp_path) == {}
    run = make_run(tmp_path / "deep")
    before = tree(run)
    refused(lambda: prepared(run, overwrite=True), "Permission denied")
    assert tree(run) == before


def test_resuming_leaves_everything_in_place(tmp_path):
    run = make_run(tmp_path / "run")
    before = tree(run)
    assert prepared(run, resume=True) == run
    assert tree(run) == before


def test_resuming_nothing_is_refused(tmp_path):
    refused(
        lambda: prepared(tmp_path / "run", resume=True),
        "does not exist",
        "leave out --resume",
    )
    refused(lambda: prepared(tmp_path, resume=True), "no run to resume")
    assert tree(tmp_path) == {}


def test_a_run_stopped_before_its_first_checkpoint_starts_again(tmp_path):
    run = make_run(tmp_path / "run", ("metrics.csv", "events.out.tfevents.1.a"))
    prepared(run, resume=True)
    assert tree(run) == {}


def test_a_finished_run_that_lost_its_checkpoint_is_not_resumed(tmp_path):
    run = make_run(tmp_path / "run", ("metrics.csv", "summary.json"))
    before = tree(run)
    refused(lambda: prepared(run, resume=True), "without its checkpoint.pt")
    assert tree(run) == before


def test_a_config_cannot_lead_out_of_its_folder(tmp_path):
    make_run(tmp_path / "victim")
    run = make_run(tmp_path / "run", folders=["../victim", "..", ".", "", 3, "/etc"])
    before = tree(tmp_path / "victim")
    prepared(run, overwrite=True)
    assert tree(tmp_path / "victim") == before


def test_checking_a_folder_changes_nothing(tmp_path):
    run = make_run(tmp_path / "run")
    before = tree(tmp_path)
    check_folder(tmp_path / "new" / "folder")
    check_folder(run, overwrite=True)
    check_folder(run, resume=True)
    refused(lambda: check_folder(run))
    assert tree(tmp_path) == before


def test_a_configuration_says_with_what_and_where_it_was_run(tmp_path):
    config = configuration({"seed": 3, "head_step": float("inf"), "rule": ("td",)})
    assert config["seed"] == 3
    assert config["head_step"] is None
    assert config["rule"] == ["td"]
    assert set(config["versions"]) == {"neural_tdc", "python", "torch", "numpy", "gymnasium"}
    assert re.fullmatch(r"\d\.\d+\.\d+", config["versions"]["neural_tdc"])
    assert config["commit"] is None or re.fullmatch(r"[0-9a-f]{40,64}", config["commit"])
    assert config["dirty"] in (True, False, None)
    assert config["threads"] >= 1
    assert config["device_name"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", config["date"])
    write_json(tmp_path / "config.json", config)
    assert read_json(tmp_path / "config.json") == config
    assert holds_run(tmp_path)


def test_no_git_is_no_commit_and_no_failure(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(module, "_commit", module._commit.__wrapped__)
    config = configuration({})
    assert config["commit"] is None
    assert config["dirty"] is None


def test_resuming_with_another_setting_is_refused_by_its_flag(tmp_path):
    make_run(tmp_path, head_step=0.1, steps=100, lambda_=0.9, rule=["td", "tdc"])
    allowed = ("steps", "device")
    same = {"head_step": 0.1, "lambda_": 0.9, "rule": ("td", "tdc"), "seed": 3, "new": 1}
    check_same_settings(tmp_path, {**same, "steps": 500}, allowed)
    with pytest.raises(ValueError, match=r"^--head-step 0\.2 differs from the 0\.1 of the run in"):
        check_same_settings(tmp_path, {**same, "head_step": 0.2}, allowed)
    with pytest.raises(ValueError, match=r"^--lambda 0\.8 .* change --steps and --device only$"):
        check_same_settings(tmp_path, {**same, "lambda_": 0.8}, allowed)
    with pytest.raises(ValueError, match=r"^--rule td differs from the td tdc of"):
        check_same_settings(tmp_path, {**same, "rule": ("td",)}, allowed)


def test_a_checkpoint_is_part_of_the_run_it_lies_in(tmp_path):
    run = make_run(tmp_path / "run", ())
    save_checkpoint(run / "checkpoint.pt", {"step": 1})
    assert sorted(os.listdir(prepared(run, resume=True))) == ["checkpoint.pt", "config.json"]
    assert os.listdir(prepared(run, overwrite=True)) == []


@pytest.mark.parametrize("action", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("damage", [None, b"{"])
def test_a_run_that_lost_its_configuration_is_called_so(tmp_path, action, damage):
    one, several = tmp_path / "one", tmp_path / "several"
    make_run(one)
    make_several(several, ["td", "tdc"])
    (several / "summary.json").write_text("{}")
    (several / "td" / "metrics.csv").touch()
    for folder in (one, several):
        (folder / "config.json").unlink()
        if damage:
            (folder / "config.json").write_bytes(damage)
        refused(lambda out=folder: prepared(out, **action), "config.json is missing or damaged")


def test_a_folder_of_many_runs_is_not_taken_for_one_that_lost_its_configuration(tmp_path):
    make_run(tmp_path / "runs" / "boyan")
    refused(lambda: prepared(tmp_path / "runs"), "holds files that do not belong to a run (boyan)")


def test_a_long_name_is_cut_and_stays_one_of_its_own(tmp_path):
    assert folder_name("mod:f") == "mod.f"
    one, other = folder_name("mod:" + "f" * 300), folder_name("mod:" + "f" * 301)
    assert one.startswith("mod.fff")
    assert one != other
    assert folder_name(one) == one
    (tmp_path / folder_name("ö" * 300)).mkdir()
