"""What supervised learning leaves on the disk and on the screen, and what goes on after a stop."""

import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.runs.command_line.program import main
from experiments.runs.recording import recorder
from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History, MetricsFile, read
from experiments.runs.results.progress import Progress
from experiments.train_supervised import __main__ as program
from tests.experiments.interruption import interrupted
from tests.experiments.run_files import names, same_run, scalars, strict

LINE = (
    "--task friedman --runs 2 --steps 14 --measure-every 4 --hidden 5 --batch 3 --compile off "
    "--body-step 0.001 --head-step 0.01 "
    "--curvature-every 2 --curvature-products 2 --curvature-samples 30 --response-samples 50"
)
ARMS = ("split", "body-rate", "head-rate", "limit")


@pytest.fixture
def train(run_program, monkeypatch):
    """Return a function that runs the program; a figure is a stub unless `figure` is True."""
    drawn = program.evaluation_figure

    def stub(path, histories, title, panels, **_):
        path.write_text(" ".join([title, *histories]))

    def run(line, figure=False):
        monkeypatch.setattr(program, "evaluation_figure", drawn if figure else stub)
        return run_program(program.train_supervised, line)

    return run


def test_four_arms_are_four_folders_and_a_common_figure_summary_and_checkpoint(train, tmp_path):
    outcome = train(f"{LINE} --out run", figure=True)
    assert outcome.status == 0, outcome.error
    out = tmp_path / "run"
    assert names(out) == {*ARMS, "config.json", "summary.json", "figure.png", "checkpoint.pt"}
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG\r\n")
    summary = strict(out / "summary.json")
    assert list(summary) == list(ARMS)
    for arm in ARMS:
        assert names(out / arm) == {
            "config.json", "summary.json", "figure.png", "metrics.csv", "events.out",
        }  # fmt: skip
        assert strict(out / arm / "summary.json") == summary[arm]
        entry = summary[arm]
        assert (entry["problem"], entry["rule"], entry["runs"]) == ("friedman", arm, 2)
        assert entry["metrics"].keys() >= {
            "test_loss",
            "train_loss",
            "test_rmse",
            "tracking_error_head",
        }
        assert entry["metrics"]["curvature_reduced_largest"]["final"]["mean"] is not None
    config = strict(out / "config.json")
    assert (config["folders"], config["task"], config["hidden"]) == (list(ARMS), "friedman", [5])
    assert (config["compiled"], config["data_sha256"]) == (False, None)
    for said in ("test RMSE", "tracking error of θ", "split − limit: test loss", "tensorboard"):
        assert said in outcome.out


def test_measurements_are_where_the_head_answers_the_curvature_and_the_rates(train, tmp_path):
    assert train(f"{LINE} --out run --schedule general").status == 0
    split, limit = (read(tmp_path / "run" / arm / "metrics.csv") for arm in ("split", "limit"))
    assert split.steps.tolist() == [0, 4, 8, 12, 14]
    largest = split.values("curvature/joint_largest")
    # Every second measurement, and the last.
    assert np.isfinite(largest).all(axis=1).tolist() == [True, False, True, False, True]
    assert (split.values("curvature/reduced_trace_error")[0] > 0).all()
    rates = split.values("step_size/body")[:, 0]
    np.testing.assert_allclose(rates, [1e-3 * max(k, 1) ** -0.6 for k in (0, 4, 8, 12, 14)])
    assert np.isnan(limit.values("step_size/head")).all()
    assert (limit.values("tracking_error/head")[0] == split.values("tracking_error/head")[0]).all()
    # The loss of the limit arm is that of the best response: below, on what it was fitted to.
    assert (limit.values("train/loss")[0] < split.values("train/loss")[0]).all()
    run = tmp_path / "run"
    assert [step for step, _ in scalars(run / "split", "test/loss")] == [0, 4, 8, 12, 14]
    tags = EventAccumulator(str(run / "split")).Reload().Tags()["scalars"]
    assert {
        "tracking_error/head",
        "step_size/head",
        "curvature/joint_trace",
        "whole_run/auc_test_loss",
    } < {*tags}


def test_arms_differ_by_their_rates_only(finished):
    first = {arm: read(finished(LINE) / arm / "metrics.csv") for arm in ARMS[:3]}
    losses = [history.values("test/loss") for history in first.values()]
    assert (losses[0][0] == losses[1][0]).all()
    assert (losses[0][0] == losses[2][0]).all()
    assert len({tuple(loss[-1]) for loss in losses}) == 3


def test_one_arm_is_one_folder(train, tmp_path):
    line = LINE.replace(" --head-step 0.01", "")
    assert train(f"{line} --arm limit --out run").status == 0
    assert names(tmp_path / "run") == {
        "config.json", "summary.json", "figure.png", "metrics.csv", "events.out", "checkpoint.pt",
    }  # fmt: skip
    assert strict(tmp_path / "run" / "summary.json")["rule"] == "limit"


def test_automatic_arms_print_how_their_rates_go_with_the_gradient_norm(train, tmp_path):
    line = LINE.replace("--steps 14", "--steps 40")
    outcome = train(f"{line} --arm split automatic-sgd automatic-sign --out run")
    assert outcome.status == 0, outcome.error
    lines = [line for line in outcome.out.splitlines() if "log gradient norm" in line]
    assert [line.partition(":")[0] for line in lines] == [
        "automatic-sgd, body", "automatic-sgd, head", "automatic-sign, body",
        "automatic-sign, head",
    ]  # fmt: skip
    assert all("the median of 2 runs" in line for line in lines)
    history = read(tmp_path / "run" / "automatic-sgd" / "metrics.csv")
    assert len(set(history.values("step_size/body")[1:, 0])) > 3


def test_images_are_classified_and_their_folder_is_remembered(train, tmp_path, idx_files):
    idx_files(tmp_path / "MNIST/raw", compressed=True)
    line = (
        "--task mnist --data . --runs 2 --steps 4 --hidden 6 5 --batch 3 --measure-every 2 "
        "--curvature-every 2 --curvature-products 2 --compile off --out run"
    )
    outcome = train(line)
    assert outcome.status == 0, outcome.error
    assert "test accuracy" in outcome.out
    history = read(tmp_path / "run" / "split" / "metrics.csv")
    assert ((history.values("test/accuracy") * 4) % 1 == 0).all()
    # The curvature of the first seed only.
    assert np.isfinite(history.values("curvature/joint_largest")[0]).tolist() == [True, False]
    idx_files(tmp_path / "MNIST/raw", compressed=True, seed=1)
    again = train(f"{line} --resume")
    assert again.status == 2
    assert "--data . is not what the run in run was started with" in again.error


def test_a_response_short_of_its_tolerance_is_said_with_its_residual(train, tmp_path, idx_files):
    idx_files(tmp_path)
    outcome = train(
        "--task mnist --data . --runs 1 --steps 2 --hidden 5 --batch 3 --curvature-every 0 "
        "--response-tolerance 1e-30 --compile off --arm split --out run"
    )
    assert outcome.status == 0
    assert "warning: a softmax best response did not converge: residual" in outcome.error


def test_a_singular_regression_without_a_ridge_is_one_line(train):
    line = LINE.replace("--response-samples 50", "--response-samples 4")
    outcome = train(f"{line} --ridge 0 --out run")
    assert outcome.status == 2
    assert "singular" in outcome.lines[-1]
    assert "add a ridge above 0" in outcome.lines[-1]


def test_diverged_runs_are_counted_and_leave_null(train, tmp_path):
    line = LINE.replace("--head-step 0.01", "--head-step 1e30")
    outcome = train(f"{line} --optimizer sgd --arm split body-rate --out run")
    assert outcome.status == 0, outcome.error
    assert "warning: split: all 2 runs diverged" in outcome.error
    summary = strict(tmp_path / "run" / "summary.json")
    assert (summary["split"]["diverged"], summary["body-rate"]["diverged"]) == (2, 0)
    assert summary["split"]["metrics"]["test_loss"]["final"]["mean"] is None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function that gives the folder of a finished run, made once; it stays as it is."""
    made = {}

    def run(line):
        if line not in made:
            made[line] = tmp_path_factory.mktemp("finished") / "run"
            threads = torch.get_num_threads()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    program, "evaluation_figure", lambda path, *_, **__: path.write_text("")
                )
                argv = [*line.split(), "--out", str(made[line])]
                assert main(program.train_supervised, argv) == 0
            torch.set_num_threads(threads)
        return made[line]

    return run


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        # Before the first measurement, between two arms, between file and events, at the last
        # measurement, while a checkpoint is written, and when all is learned.
        (History, "append", 1),
        (History, "append", 6),
        (MetricsFile, "write", 7),
        (TensorBoardLog, "write", 10),
        (Progress, "update", 5),
        (recorder, "save_checkpoint", 2),
        (TensorBoardLog, "write_hparams", 3),
    ],
)
def test_ctrl_c_between_any_two_lines_loses_and_repeats_nothing(
    train, finished, tmp_path, monkeypatch, owner, name, call
):
    monkeypatch.setattr(recorder, "CHECKPOINT_EVERY", 0.0)
    line = f"{LINE} --response-every 3"
    whole = finished(line)
    interrupted(monkeypatch, train, owner, name, call, f"{line} --out parts")
    assert train(f"{line} --out parts --resume").status == 0
    same_run(whole, tmp_path / "parts", ARMS)
    for tag in ("test/loss", "tracking_error/head"):
        for arm in ARMS:
            assert scalars(tmp_path / "parts" / arm, tag) == scalars(whole / arm, tag)
    one, other = (strict(out / "summary.json") for out in (whole, tmp_path / "parts"))
    assert all(one[arm]["metrics"] == other[arm]["metrics"] for arm in ARMS)


def test_files_that_know_more_than_the_checkpoint_are_cut_back_to_it(
    train, finished, tmp_path, monkeypatch
):
    interrupted(monkeypatch, train, Progress, "update", 2, f"{LINE} --out parts")
    checkpoint = tmp_path / "parts" / "checkpoint.pt"
    early = checkpoint.read_bytes()
    assert train(f"{LINE} --out parts --resume").status == 0
    checkpoint.write_bytes(early)
    with (tmp_path / "parts" / "limit" / "metrics.csv").open("a") as metrics:
        metrics.write("14,0,0,0.5")
    assert train(f"{LINE} --out parts --resume").status == 0
    same_run(finished(LINE), tmp_path / "parts", ARMS)


def test_a_resumed_run_may_be_longer_and_goes_on_as_if_it_had_always_been(train, tmp_path):
    long = LINE.replace("--steps 14", "--steps 20")
    assert train(f"{long} --out whole").status == 0
    assert train(f"{LINE} --out parts").status == 0
    assert train(f"{long} --out parts --resume").status == 0
    # The end of the shorter run was measured too, and is no measurement of the longer one.
    same_run(tmp_path / "whole", tmp_path / "parts", ARMS)
    assert strict(tmp_path / "parts" / "config.json")["steps"] == 20


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("--head-step 0.5", "--head-step 0.5 differs from the 0.01"),
        ("--seed 6", "--seed 6 differs from the 0"),
        ("--arm split limit", "--arm split limit differs from the split body-rate head-rate limit"),
        ("--dtype float64", "--dtype float64 differs from the float32"),
        ("--steps 13", "--steps 13 is less than the 14"),
    ],
)
def test_another_setting_on_resume_is_refused_by_its_flag(train, finished, tmp_path, changed, said):
    shutil.copytree(finished(LINE), tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    flags = [f"--{part}" for part in LINE.removeprefix("--").split(" --")]
    again = " ".join(part for part in flags if part.split()[0] != changed.split()[0])
    outcome = train(f"{again} {changed} --out run --resume")
    assert outcome.status == 2
    assert len(outcome.lines) == 1
    assert said in outcome.error
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_folder_with_a_run_is_kept_unless_it_is_to_be_replaced(train, tmp_path):
    assert train(f"{LINE} --out run").status == 0
    refused = train(f"{LINE} --out run")
    assert refused.status == 2
    assert "holds a run already" in refused.error
    assert train(f"{LINE} --arm split limit --out run --overwrite").status == 0
    assert names(tmp_path / "run") >= {"split", "limit", "summary.json"}
    assert not (tmp_path / "run" / "head-rate").exists()


def test_a_damaged_checkpoint_is_named_and_nothing_is_written(train, finished, tmp_path):
    shutil.copytree(finished(LINE), tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    before = (tmp_path / "run" / "split" / "metrics.csv").read_bytes()
    outcome = train(f"{LINE} --out run --resume")
    assert outcome.status == 2
    assert "checkpoint.pt is damaged" in outcome.error
    assert (tmp_path / "run" / "split" / "metrics.csv").read_bytes() == before
