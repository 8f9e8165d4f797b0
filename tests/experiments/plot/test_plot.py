import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.plot.__main__ import plot
from experiments.plot.run import labels, read_run, run_folders
from experiments.runs.command_line.program import main
from experiments.runs.folder.configuration import configuration
from experiments.runs.folder.files import write_json
from experiments.runs.results.history import History, MetricsFile
from experiments.runs.results.statistics import summary

ERRORS = ("error/rmsve", "tracking_error/head")


def make_run(folder, rule="td", problem="boyan", seed=0, finished=True, runs=3, names=ERRORS):
    folder.mkdir(parents=True)
    write_json(folder / "config.json", configuration({"problem": problem, "rule": [rule]}))
    history = History()
    file = MetricsFile(folder / "metrics.csv", history)
    numbers = np.random.default_rng(seed)
    for step in (0, 100, 200):
        values = {names[0]: numbers.uniform(1, 2, runs), names[1]: np.ones(runs)}
        history.append(step, values, np.zeros(runs, dtype=bool))
        file.write()
    file.close()
    if finished:
        result = summary(
            history, problem=problem, rule=rule, steps=200, seed=4, seconds={"learn": 1.0}
        )
        write_json(folder / "summary.json", result)
    return history


def refused(capsys, *arguments):
    assert main(plot, list(map(str, arguments))) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_a_run_is_drawn_again_into_its_folder_with_its_table(tmp_path, capsys):
    history = make_run(tmp_path / "run")
    assert main(plot, [str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "figure.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    mean = history.last("error/rmsve").mean()
    found = re.search(r"^td +(\d\.\d+) \[", shown, re.MULTILINE)
    assert abs(float(found[1]) - mean) < 0.02
    assert "0 of 3" in shown
    assert shown.endswith(f"figure: {tmp_path / 'run' / 'figure.png'}\n")


def test_a_folder_of_rules_expands_in_the_order_of_the_run(tmp_path, capsys):
    for rule in ("tdc", "htd", "td"):
        make_run(tmp_path / rule, rule, finished=rule != "td")
    write_json(tmp_path / "config.json", {"folders": ["tdc", "td", "htd"]})
    write_json(tmp_path / "summary.json", {"tdc": {}})
    assert [path.name for path in run_folders(tmp_path)] == ["tdc", "td", "htd"]
    assert main(plot, [str(tmp_path)]) == 0
    rules = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:5]]
    assert rules == ["tdc", "td", "htd"]
    assert (tmp_path / "figure.png").exists()


def test_a_rule_without_measurements_is_left_out_and_named(tmp_path, capsys):
    for rule in ("tdc", "td"):
        make_run(tmp_path / rule, rule)
    write_json(tmp_path / "config.json", {"folders": ["tdc", "td"]})
    (tmp_path / "td" / "metrics.csv").unlink()
    assert [path.name for path in run_folders(tmp_path)] == ["tdc"]
    said = capsys.readouterr().err
    assert said == f"note: left out, since there is no metrics.csv: {tmp_path / 'td'}\n"


def test_several_folders_are_compared_in_one_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    assert main(plot, ["a", "b", "--metric", "rmsve", "tracking_error/head"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[2:4]] == ["a", "b"]
    assert (tmp_path / "comparison.png").exists()
    assert not (tmp_path / "a" / "figure.png").exists()
    assert main(plot, ["a", "b", "--out", "b/both.pdf"]) == 0
    assert (tmp_path / "b" / "both.pdf").read_bytes().startswith(b"%PDF")


def test_a_run_of_deep_q_learning_is_drawn_by_the_metrics_that_it_has(tmp_path, capsys):
    game = tmp_path / "game"
    make_run(game, "dqn", "Pong", runs=1, names=("evaluation/score", "loss/td"))
    make_run(tmp_path / "td")
    (game / "figure.png").write_bytes(b"its own figure")
    said = "game is not a run of policy evaluation; choose with --metric what to draw:"
    assert f"{said} evaluation_score, loss_td" in refused(capsys, game)
    assert said in refused(capsys, tmp_path / "td", game)
    assert (game / "figure.png").read_bytes() == b"its own figure"
    message = refused(capsys, tmp_path / "td", game, "--metric", "rmsve")
    assert "game did not measure rmsve; leave it out" in message
    out = tmp_path / "score.png"
    assert main(plot, [str(game), "--metric", "evaluation_score", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("rule  mean evaluation_score  diverged")
    assert out.exists()


def test_runs_are_called_by_as_little_as_tells_them_apart(tmp_path):
    make_run(tmp_path / "a", "td", "boyan")
    make_run(tmp_path / "b", "tdc", "boyan")
    make_run(tmp_path / "c", "td", "baird")
    a, b, c = (read_run(tmp_path / name) for name in "abc")
    assert labels([a, b]) == ["td", "tdc"]
    assert labels([a, b, c]) == ["boyan td", "boyan tdc", "baird td"]
    assert labels([a, a._replace(folder=tmp_path)]) == [str(tmp_path / "a"), str(tmp_path)]


def test_metrics_alone_are_enough(tmp_path, capsys):
    make_run(tmp_path / "alone")
    for name in ("config.json", "summary.json"):
        (tmp_path / "alone" / name).unlink()
    assert main(plot, [str(tmp_path / "alone")]) == 0
    assert "\nalone " in capsys.readouterr().out


def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    make_run(run)
    (tmp_path / "empty").mkdir()
    assert "is not a folder" in refused(capsys, tmp_path / "nowhere")
    assert "is not a folder" in refused(capsys, run / "metrics.csv")
    assert "holds no run" in refused(capsys, tmp_path / "empty")
    assert "FOLDER must be given" in refused(capsys)
    assert "FOLDER names" in refused(capsys, run, run)
    assert "a folder is given twice" in refused(capsys, run, tmp_path)
    message = refused(capsys, run, "--metric", "rmsv")
    assert "there are rmsve, tracking_error_head; did you mean rmsve" in message
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        assert "figure.png cannot be written; give another file by" in refused(capsys, run)
    assert "cannot be read: File name too long" in refused(capsys, tmp_path / ("a" * 300))
    assert "cannot be written: File name too long" in refused(
        capsys, run, "--out", "a" * 300 + ".png"
    )
    (tmp_path / "folder.png").mkdir()
    assert "is a folder; give a file" in refused(capsys, run, "--out", tmp_path / "folder.png")
    (tmp_path / "study" / "parts").mkdir(parents=True)
    assert "holds a step-size study" in refused(capsys, tmp_path / "study")
    assert "must end in .png, .pdf, .svg" in refused(capsys, run, "--out", "notes.txt")
    assert "there is no folder" in refused(capsys, run, "--out", "no/where/a.png")
    (run / "summary.json").write_text("{")
    assert "summary.json is damaged" in refused(capsys, run)
    (run / "metrics.csv").write_text("step,run,diverged,error/rmsve\n")
    assert "holds no measurement yet" in refused(capsys, run)
    (run / "metrics.csv").write_text("hello\n")
    assert "not a table of measurements" in refused(capsys, run)
    assert not (run / "figure.png").exists()


def test_the_program_runs_from_the_command_line(tmp_path):
    make_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.plot", str(tmp_path / "run"), "--metric", "rmsve"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "figure: " in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "is given without a value"), (["rmsve", "rmsve"], "names rmsve 2 times")],
)
def test_metrics_are_given_once_each(tmp_path, capsys, given, said):
    assert main(plot, [str(tmp_path), "--metric", *given]) == 2
    assert f"error: --metric {said}" in capsys.readouterr().err
