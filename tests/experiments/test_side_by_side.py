"""Runs of deep Q-learning in processes of their own, up to several at a time."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments import side_by_side as module
from experiments.command_line import Stopped
from experiments.dqn_settings import Settings
from experiments.run_folder import load_checkpoint
from experiments.side_by_side import log_of, side_by_side
from experiments.train_dqn import _threads, train

TINY = {
    "problem": "CartPole-v1",
    "steps": 120,
    "learning_starts": 60,
    "replay_capacity": 300,
    "batch": 16,
    "evaluate_every": 60,
    "measure_every": 60,
    "evaluation_episodes": 2,
}


@pytest.fixture
def tiny(tmp_path):
    """Return a function that makes settings of a tiny run in a folder of its own."""
    return lambda seed, **other: Settings(
        **{**TINY, **other}, seed=seed, out=tmp_path / "all" / f"seed-{seed}"
    )


def test_runs_side_by_side_end_as_runs_alone_and_keep_a_log(tiny, tmp_path):
    runs = [tiny(seed) for seed in range(3)]
    begun = []
    done = list(side_by_side(runs, 2, begun.append))
    assert begun == runs
    assert sorted(run.seed for run in done) == [0, 1, 2]
    for run in runs:
        alone = dataclasses.replace(run, out=tmp_path / "alone" / str(run.seed))
        threads = torch.get_num_threads()
        train(alone)
        torch.set_num_threads(threads)
        for name in ("metrics.csv", "scores.json"):
            assert (run.out / name).read_bytes() == (alone.out / name).read_bytes(), name
        assert "CartPole-v1" in log_of(run).read_text()


def test_a_run_that_fails_is_named_and_the_others_stop_with_their_work_saved(tiny):
    long = tiny(0, steps=10**7, measure_every=100, evaluate_every=10**7)
    wrong = tiny(1, body_step=1e30, head_step=1e30, steps=10**7, evaluate_every=10**7)
    with pytest.raises(Stopped, match=r"the loss is not finite.*seed-1.*seed-1\.log") as raised:
        list(side_by_side([long, wrong], 2, lambda run: None))
    assert raised.value.status == 1
    assert (long.out / "checkpoint.pt").exists()
    assert not (long.out / "summary.json").exists()
    assert not multiprocessing.active_children()


def test_runs_share_the_threads_where_these_help():
    all_threads = torch.get_num_threads()
    assert _threads({"problem": "ALE/Pong-v5"}, 1) == all_threads
    assert _threads({"problem": "ALE/Pong-v5"}, 1000) == 1
    assert _threads({"problem": "CartPole-v1"}, 1) == 1


LONG = (
    "--problem CartPole-v1 --arm split --seeds 2 --steps 100000 --learning-starts 60 "
    "--replay-capacity 300 --batch 16 --evaluate-every 100000 --measure-every 60 "
    "--evaluation-episodes 2 --random-games 2 --parallel 2 --out all"
)


def wait_for(condition, seconds=120):
    """Return once a condition holds; fail where it takes longer than anything may."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def comparison(tmp_path):
    """Return a running comparison of two long runs, and the files that these write."""
    folders = [tmp_path / "all" / "CartPole-v1" / "split" / f"seed-{seed}" for seed in (0, 1)]

    def measured(folder):
        path = folder / "metrics.csv"
        return len(path.read_text().splitlines()) if path.exists() else 0

    root = str(Path(module.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.compare_dqn", *LONG.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A program that was started in the background would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_for(lambda: min(map(measured, folders)) > 2)
        yield process, folders
        process.kill()


def test_ctrl_c_stops_all_runs_after_their_measurement_with_their_work_saved(comparison):
    process, folders = comparison
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].endswith(f"{LONG} --resume")
    for folder in folders:
        saved = load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))
        measured = (folder / "metrics.csv").read_text().splitlines()
        assert saved["step"] == int(measured[-1].split(",")[0]) >= 60


def test_the_runs_end_where_their_program_was_killed(comparison):
    process, folders = comparison
    process.kill()
    process.communicate(timeout=60)
    time.sleep(1)
    metrics = [(folder / "metrics.csv").read_bytes() for folder in folders]
    time.sleep(0.5)
    assert metrics == [(folder / "metrics.csv").read_bytes() for folder in folders]
