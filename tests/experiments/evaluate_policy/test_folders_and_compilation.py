"""Which folders a run takes, and when it is compiled."""

import dataclasses
import os

import pytest

from experiments.evaluate_policy.parts import algorithms
from experiments.evaluate_policy.parts import plan as evaluation_plan
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from tests.experiments.evaluate_policy.command_lines import RUN_FILES, TINY, WALK
from tests.experiments.run_files import names, strict


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("a run", "holds a run already; give another folder, --resume to continue it"),
        ("thesis.txt", "holds files that do not belong to a run (thesis.txt)"),
        ("a file", "is a file"),
    ],
)
def test_a_folder_that_holds_something_is_refused_and_left_alone(evaluate, tmp_path, found, said):
    if found == "a run":
        assert evaluate(f"{WALK} {TINY} --rule td --out run").status == 0
    elif found == "a file":
        (tmp_path / "run").touch()
    else:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / found).touch()
    before = contents(tmp_path)
    for rules in ("td", "td tdc"):
        outcome = evaluate(f"{WALK} {TINY} --rule {rules} --out run")
        assert outcome.status == 2
        assert outcome.lines == [outcome.error.strip()]
        assert f"--out run {said}" in outcome.error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_one_line_and_nothing_is(evaluate, tmp_path, out):
    if out.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("there is no /proc here")
    (tmp_path / "file").touch()
    for rules in ("td", "td tdc"):
        outcome = evaluate(f"{WALK} {TINY} --rule {rules} --out {out}")
        assert outcome.status == 2
        assert outcome.lines == [outcome.error.strip()]
        assert f"--out {out} cannot be written" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_is_refused(evaluate, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    outcome = evaluate(f"{WALK} {TINY} --rule td --out locked/run")
    assert outcome.status == 2
    assert "--out locked/run cannot be written" in outcome.error


def test_overwriting_replaces_a_run_but_not_before_all_is_checked(evaluate, tmp_path):
    assert evaluate(f"{WALK} {TINY} --rule td tdc --out run").status == 0
    before = contents(tmp_path)
    wrong = evaluate(f"{WALK} {TINY} --rule td --head-step -3 --out run --overwrite")
    assert wrong.status == 2
    assert contents(tmp_path) == before
    assert evaluate(f"{WALK} {TINY} --rule gtd2 --out run --overwrite").status == 0
    assert names(tmp_path / "run") == RUN_FILES


def test_resuming_what_is_not_there_is_refused(evaluate, tmp_path):
    outcome = evaluate(f"{WALK} {TINY} --rule td --out run --resume")
    assert outcome.status == 2
    assert "--out run does not exist; leave out --resume" in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_a_long_run_is_compiled_and_a_short_one_is_not(evaluate):
    settings = EvaluationSettings(problem="boyan", rule=("td",))
    for steps, how, compiled in (
        (algorithms.UPDATES_WORTH_COMPILING, "auto", True),
        (algorithms.UPDATES_WORTH_COMPILING - 1, "auto", False),
        (1, "on", True),
        (10**6, "off", False),
    ):
        chosen = dataclasses.replace(settings, steps=steps, compile=how)
        assert algorithms.compiles(chosen, evaluation_plan.evaluation_plan(chosen)) == (
            compiled,
            None,
        )


def test_without_a_compiler_the_run_is_eager_with_a_warning(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(algorithms, "compiler_available", lambda device: False)
    line = f"--problem boyan {TINY} --compile on --rule td --out run"
    outcome = evaluate(line)
    assert outcome.status == 0
    assert outcome.lines[0].startswith("warning: --compile on: there is no C++ compiler")
    assert strict(tmp_path / "run" / "config.json")["compiled"] is False
    assert evaluate(f"{line} --resume").status == 0


BODY = "def body(shape):\n    return torch.nn.Linear(shape[0], 3)"


def test_a_body_of_ones_own_that_cannot_be_compiled_is_refused_or_runs_eagerly(
    evaluate, own, tmp_path, monkeypatch
):
    tried = algorithms.try_update

    def try_update(*arguments, compiled=False):
        if compiled:
            raise RuntimeError("Unsupported\nmany more lines")
        tried(*arguments)

    monkeypatch.setattr(algorithms, "try_update", try_update)
    monkeypatch.setattr(algorithms, "compiler_available", lambda device: True)
    monkeypatch.setattr(algorithms, "UPDATES_WORTH_COMPILING", 5)
    body = f"{own(BODY)}:body"
    line = f"--problem boyan {TINY} --rule td --body {body}"
    outcome = evaluate(f"{line} --compile on --out on")
    assert outcome.status == 2
    said = f"error: --compile on: --body {body} cannot be compiled: Unsupported"
    assert outcome.lines == [said]
    assert not (tmp_path / "on").exists()
    outcome = evaluate(f"{line} --compile auto --out auto")
    assert outcome.status == 0
    assert outcome.lines[0] == f"warning: --body {body} runs without compilation: Unsupported"
    assert strict(tmp_path / "auto" / "config.json")["compiled"] is False
