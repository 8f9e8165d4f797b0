"""A stop at any moment, and what goes on from there."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.evaluate_policy import __main__ as program
from experiments.evaluate_policy.results import figures
from experiments.runs.command_line.program import main
from experiments.runs.folder.checkpoint import save_checkpoint
from experiments.runs.recording import recorder
from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History, MetricsFile, read
from experiments.runs.results.progress import Progress
from neural_tdc.tensor_file import save_tensors
from tests.experiments.interruption import interrupted
from tests.experiments.run_files import leaves, same_run, scalars

LINE = "--problem random-walk-tabular --runs 3 --steps 14 --measure-every 4 --compile off --seed 5"


@pytest.mark.parametrize(
    "rule",
    [
        "--rule tdc --optimizer sgd rmsprop sgd --schedule general",
        "--rule etd --features given",
        "--rule generalized --psi snapshot --sampling iid --batch 2",
        "--rule semi_gradient+lstd --sampling replay --replay-window 9 --lstd-window 7",
        "--rule ttn --dtype float64 --constraint ball:2",
    ],
)
def test_a_stopped_run_that_is_resumed_ends_as_one_that_was_not(
    evaluate, tmp_path, monkeypatch, rule
):
    assert evaluate(f"{LINE} {rule} --out whole").status == 0
    stopped = interrupted(
        monkeypatch, evaluate, Progress, "update", 3, f"{LINE} {rule} --out parts"
    )
    assert stopped.status == 130
    assert read(tmp_path / "parts" / "metrics.csv").steps.tolist() == [1, 5, 9]
    assert not (tmp_path / "parts" / "summary.json").exists()
    assert evaluate(f"{LINE} {rule} --out parts --resume").status == 0
    same_run(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts")
    )
    assert whole["metrics"] == parts["metrics"]


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        # Before the first measurement, between history and file, between file and events, at the
        # last measurement, while the checkpoint is written, and when all is learned.
        (History, "append", 1),
        (MetricsFile, "write", 3),
        (TensorBoardLog, "write", 3),
        (Progress, "update", 5),
        (recorder, "save_checkpoint", 1),
        (TensorBoardLog, "write_hparams", 1),
    ],
)
def test_ctrl_c_between_any_two_lines_loses_and_repeats_nothing(
    evaluate, tmp_path, monkeypatch, owner, name, call
):
    monkeypatch.setattr(recorder, "CHECKPOINT_EVERY", 0.0)
    line = f"{LINE} --rule tdc"
    assert evaluate(f"{line} --out whole").status == 0
    stopped = interrupted(monkeypatch, evaluate, owner, name, call, f"{line} --out parts")
    assert stopped.status == 130
    assert stopped.lines[-1].startswith(
        "stopped; continue with: python -m experiments.evaluate_policy"
    )
    assert evaluate(f"{line} --out parts --resume").status == 0
    same_run(tmp_path / "whole", tmp_path / "parts")
    for tag in ("error/rmsve", "step_size/head"):
        assert scalars(tmp_path / "parts", tag) == scalars(tmp_path / "whole", tag)


def test_files_that_know_more_than_the_checkpoint_are_cut_back_to_it(
    evaluate, tmp_path, monkeypatch
):
    # As after a power cut: the rest of the run is on the disk, but no later checkpoint.
    line = f"{LINE} --rule tdc"
    assert evaluate(f"{line} --out whole").status == 0
    interrupted(monkeypatch, evaluate, Progress, "update", 2, f"{line} --out parts")
    checkpoint = tmp_path / "parts" / "checkpoint.pt"
    early = checkpoint.read_bytes()
    assert evaluate(f"{line} --out parts --resume").status == 0
    checkpoint.write_bytes(early)
    with (tmp_path / "parts" / "metrics.csv").open("a") as metrics:
        metrics.write("14,0,0,0.5")
    assert evaluate(f"{line} --out parts --resume").status == 0
    same_run(tmp_path / "whole", tmp_path / "parts")
    for tag in ("error/rmsve", "tracking_error/auxiliary"):
        assert scalars(tmp_path / "parts", tag) == scalars(tmp_path / "whole", tag)


def test_the_line_that_is_printed_at_a_stop_resumes(evaluate, tmp_path, monkeypatch):
    line = f"{LINE} --rule td --out 'a folder'"
    stopped = interrupted(monkeypatch, evaluate, Progress, "update", 2, line)
    printed = stopped.lines[-1].partition("experiments.evaluate_policy ")[2]
    assert printed.endswith("--out 'a folder' --resume")
    assert evaluate(printed).status == 0
    assert read(tmp_path / "a folder" / "metrics.csv").steps.tolist() == [1, 5, 9, 13, 14]


def test_a_stop_in_the_second_of_several_rules_keeps_the_first(evaluate, tmp_path, monkeypatch):
    line = f"{LINE} --rule td tdc gtd2"
    assert evaluate(f"{line} --out whole").status == 0
    # Five measurements a rule: the stop comes in the second.
    stopped = interrupted(monkeypatch, evaluate, Progress, "update", 7, f"{line} --out parts")
    assert stopped.status == 130
    assert json.loads((tmp_path / "parts" / "summary.json").read_text()).keys() == {"td"}
    first = (tmp_path / "parts" / "td" / "checkpoint.pt").read_bytes()
    assert evaluate(f"{line} --out parts --resume").status == 0
    assert (tmp_path / "parts" / "td" / "checkpoint.pt").read_bytes() == first
    for rule in ("td", "tdc", "gtd2"):
        same_run(tmp_path / "whole" / rule, tmp_path / "parts" / rule)
    summaries = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert list(summaries) == ["td", "tdc", "gtd2"]


def test_resuming_a_finished_run_changes_nothing_in_it(evaluate, tmp_path):
    line = f"{LINE} --rule tdc --out run"
    assert evaluate(line).status == 0
    kept = ("metrics.csv", "checkpoint.pt", "summary.json")
    before = [(tmp_path / "run" / name).read_bytes() for name in kept]
    events = sorted((tmp_path / "run").glob("events.*"))
    outcome = evaluate(f"{line} --resume")
    assert outcome.status == 0
    assert "0 of 3" in outcome.out
    assert [(tmp_path / "run" / name).read_bytes() for name in kept] == before
    assert sorted((tmp_path / "run").glob("events.*")) == events


@pytest.mark.parametrize("sampling", ["markov", "replay"])
def test_a_resumed_run_may_be_longer_and_goes_on_as_if_it_had_always_been(
    evaluate, tmp_path, sampling
):
    line = f"{LINE} --rule tdc --sampling {sampling} --batch 3"
    long = line.replace("--steps 14", "--steps 23")
    assert evaluate(f"{long} --out whole").status == 0
    assert evaluate(f"{line} --out parts").status == 0
    assert evaluate(f"{long} --out parts --resume").status == 0
    whole, parts = (read(tmp_path / name / "metrics.csv") for name in ("whole", "parts"))
    # The end of the shorter run was measured too, and is no measurement of the longer one.
    assert parts.steps.tolist() == whole.steps.tolist()
    np.testing.assert_array_equal(
        parts.values("error/rmsve"), whole.values("error/rmsve"), strict=True
    )
    pairs = zip(leaves(tmp_path / "whole"), leaves(tmp_path / "parts"), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert config["steps"] == 23


def test_a_longer_resumed_run_of_independent_draws_keeps_its_pool(evaluate, tmp_path):
    line = f"{LINE} --rule tdc --sampling iid --out run"
    assert evaluate(line).status == 0
    before = read(tmp_path / "run" / "metrics.csv")
    assert evaluate(f"{line.replace('--steps 14', '--steps 20')} --resume").status == 0
    after = read(tmp_path / "run" / "metrics.csv")
    assert after.steps.tolist() == [1, 5, 9, 13, 17, 20]
    np.testing.assert_array_equal(after.values("error/rmsve")[:4], before.values("error/rmsve")[:4])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pool"] == 14


def refused(outcome, *said):
    assert outcome.status == 2
    assert len(outcome.lines) == 1, outcome.error
    for part in said:
        assert part in outcome.error


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("--head-step 0.5", "--head-step 0.5 differs from the 0.01"),
        ("--seed 6", "--seed 6 differs from the 5"),
        ("--runs 4", "--runs 4 differs from the 3"),
        ("--problem boyan", "--problem boyan differs from the random-walk-tabular"),
        ("--rule td", "--rule td differs from the tdc"),
        ("--rule tdc td", "--rule tdc td differs from the tdc"),
        ("--width 3", "--width 3 differs from the 2"),
        ("--optimizer rmsprop", "--optimizer rmsprop rmsprop rmsprop differs from the sgd sgd sgd"),
        ("--compile on", "--compile on differs from the off"),
        ("--dtype float64", "--dtype float64 differs from the float32"),
        ("--steps 13", "--steps 13 is less than the 14"),
    ],
)
def test_another_setting_on_resume_is_refused_by_its_flag(evaluate, tmp_path, changed, said):
    line = f"{LINE} --rule tdc"
    assert evaluate(f"{line} --out run").status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    flags = [f"--{part}" for part in line.removeprefix("--").split(" --")]
    again = " ".join(part for part in flags if part.split()[0] != changed.split()[0])
    refused(evaluate(f"{again} {changed} --out run --resume"), said, "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_was_left_out_may_be_said_aloud_on_resume(evaluate):
    line = f"{LINE} --rule tdc --out run"
    assert evaluate(line).status == 0
    said = "--width 2 --hidden 32 --auxiliary-step 0.01 --optimizer sgd --gamma 1"
    assert evaluate(f"{line} {said} --device cpu --resume").status == 0


def broken_checkpoint(folder):
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    return "checkpoint.pt is damaged"


def foreign_checkpoint(folder):
    save_checkpoint(folder / "checkpoint.pt", {})
    return "belongs to another program's run"


def checkpoint_with_code(folder):
    with (folder / "checkpoint.pt").open("wb") as file:
        save_tensors({"format": "neural_tdc checkpoint 1", "state": Path()}, file)
    return "holds more than tensors and plain values"


def lost_measurements(folder):
    path = folder / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:7]) + "\n")
    return "has lost measurements"


def no_measurements(folder):
    (folder / "metrics.csv").unlink()
    return "metrics.csv does not exist"


def another_programs_run(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"versions": config["versions"], "seed": 5}))
    return "holds no run of this program"


@pytest.mark.parametrize(
    "damage",
    [
        broken_checkpoint,
        foreign_checkpoint,
        checkpoint_with_code,
        lost_measurements,
        no_measurements,
        another_programs_run,
    ],
)
def test_a_damaged_run_is_one_line_on_resume_and_stays_as_it_is(evaluate, tmp_path, damage):
    line = f"{LINE} --rule tdc --out run"
    assert evaluate(line).status == 0
    said = damage(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    longer = line.replace("--steps 14", "--steps 30")
    refused(evaluate(f"{longer} --resume"), said, "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_disk_that_takes_no_more_is_status_1_and_can_be_resumed(evaluate, tmp_path, monkeypatch):
    line = f"{LINE} --rule tdc"
    assert evaluate(f"{line} --out whole").status == 0
    written = TensorBoardLog.write

    def full(log, history, **how):
        if len(history) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(log, history, **how)

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoardLog, "write", full)
        outcome = evaluate(f"{line} --out parts")
    assert outcome.status == 1
    assert outcome.lines[-1].startswith("error: No space left on device; the last checkpoint")
    assert outcome.lines[-1].endswith("--out parts --resume")
    assert evaluate(f"{line} --out parts --resume").status == 0
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_ctrl_c_ends_the_program_with_130_and_a_checkpoint(fork, wait_for, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(figures, "evaluation_figure", lambda *_, **__: None)
    flags = "--problem boyan --rule tdc --runs 2 --steps 30000 --measure-every 5 --compile off"
    process = fork(main, program.evaluate_policy, [*flags.split(), "--out", str(tmp_path / "run")])
    wait_for((tmp_path / "run" / "checkpoint.pt").exists)
    os.kill(process.pid, signal.SIGINT)
    ended = process.end()
    assert ended.status == 130
    assert "Traceback" not in ended.error
    assert ended.lines[-1].endswith(f"--out {tmp_path / 'run'} --resume")
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]
    # The stop may have come between a row and the checkpoint that knows of it.
    assert saved["step"] in read(tmp_path / "run" / "metrics.csv").steps[-2:]
