"""Runs of deep Q-learning in processes of their own, up to several at a time."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time

import pytest
import torch

from experiments.compare_dqn.__main__ import compare_dqn
from experiments.compare_dqn.side_by_side import log_of, side_by_side
from experiments.runs.command_line.program import Stopped, main
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.train_dqn.settings import dqn_settings
from experiments.train_dqn.train import _threads, train

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
    return lambda seed, **other: dqn_settings(
        {**TINY, **other, "seed": seed, "out": tmp_path / "all" / f"seed-{seed}"}
    )


@pytest.mark.usefixtures("forked_workers")
def test_runs_side_by_side_end_as_runs_alone_and_keep_a_log(tiny, tmp_path):
    runs = [tiny(seed) for seed in range(3)]
    begun, active = [], []

    def note(run):
        begun.append(run)
        active.append(len(multiprocessing.active_children()))

    done = list(side_by_side(runs, 2, note, train))
    assert begun == runs
    assert active[:2] == [1, 2]
    assert max(active) == 2
    assert sorted(run.seed for run in done) == [0, 1, 2]
    for run in runs:
        alone = dataclasses.replace(run, out=tmp_path / "alone" / str(run.seed))
        threads = torch.get_num_threads()
        train(alone)
        torch.set_num_threads(threads)
        for name in ("metrics.csv", "scores.json"):
            assert (run.out / name).read_bytes() == (alone.out / name).read_bytes(), name
        assert "CartPole-v1" in log_of(run).read_text()


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_fails_is_named_and_the_others_stop_with_their_work_saved(tiny):
    long = tiny(0, steps=10**7, measure_every=100, evaluate_every=10**7)
    wrong = tiny(1, body_step=1e30, head_step=1e30, steps=10**7, evaluate_every=10**7)
    with pytest.raises(Stopped, match=r"the loss is not finite.*seed-1.*seed-1\.log") as raised:
        list(side_by_side([long, wrong], 2, lambda run: None, train))
    assert raised.value.status == 1
    assert (long.out / "checkpoint.pt").exists()
    assert not (long.out / "summary.json").exists()
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_is_killed_is_named_with_the_signal_and_can_go_on(tiny, wait_for):
    long = tiny(0, steps=10**7, measure_every=60, evaluate_every=10**7, checkpoint_every=0.0)
    log_of(long).parent.mkdir(parents=True)
    log_of(long).write_text("error: of an attempt before\n")

    def shoot(run):
        wait_for(lambda: (run.out / "checkpoint.pt").exists())
        (child,) = multiprocessing.active_children()
        child.kill()

    with pytest.raises(Stopped, match=r"^error: a run was ended by SIGKILL.*seed-0") as raised:
        list(side_by_side([long], 1, shoot, train))
    assert raised.value.status == 1
    again = dataclasses.replace(long, resume=True)
    with pytest.raises(Stopped, match="SIGKILL"):
        list(side_by_side([again], 1, shoot, train))


@pytest.mark.slow
def test_a_run_of_many_at_a_time_computes_with_one_thread_on_atari_too(tiny):
    pytest.importorskip("ale_py")
    game = tiny(0, problem="ALE/Pong-v5", steps=70, evaluation_longest=5)
    list(side_by_side([game], 1000, lambda run: None, train))
    assert json.loads((game.out / "config.json").read_text())["threads"] == 1


@pytest.mark.parametrize(("at_once", "threads"), [(1, 8), (3, 2), (9, 1)])
def test_threads_are_shared_where_they_help(at_once, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert _threads(dqn_settings({"problem": "ALE/Pong-v5"}), at_once) == threads
    assert _threads(dqn_settings({"problem": "CartPole-v1"}), at_once) == 1
    asked = dqn_settings({"problem": "CartPole-v1", "threads": 5})
    assert _threads(asked, at_once) == 5


LONG = (
    "--problem CartPole-v1 --arm split --seeds 2 --steps 100000 --learning-starts 60 "
    "--replay-capacity 300 --batch 16 --evaluate-every 100000 --measure-every 60 "
    "--evaluation-episodes 2 --random-games 2 --parallel 2 --checkpoint-every 0 --out all"
)


def has_members(group):
    """Return whether any process is left of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def comparison(fork, wait_for, forked_workers, monkeypatch, tmp_path):
    """Return a running comparison of two long runs, and the files that these write."""
    folders = [tmp_path / "all" / "CartPole-v1" / "split" / f"seed-{seed}" for seed in (0, 1)]

    def measured(folder):
        path = folder / "metrics.csv"
        return len(path.read_text().splitlines()) if path.exists() else 0

    monkeypatch.chdir(tmp_path)
    process = fork(main, compare_dqn, LONG.split())
    wait_for(lambda: min(map(measured, folders)) > 2)
    return process, folders


@pytest.mark.parametrize(
    ("how", "presses"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)]
)
def test_a_stop_ends_all_runs_with_their_work_saved_and_a_second_at_once(
    comparison, wait_for, how, presses
):
    process, folders = comparison
    # As a terminal or a scheduler does it: to all processes that were started from it.
    for _ in range(presses):
        os.killpg(process.pid, how)
        time.sleep(0.02)
    ended = process.end()
    assert ended.status == {signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    assert ended.lines[-1].endswith(f"{LONG} --resume")
    assert "Traceback" not in ended.error
    wait_for(lambda: not has_members(process.pid), 10)
    for folder in folders if presses == 1 else ():
        saved = load_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))
        measured = (folder / "metrics.csv").read_text().splitlines()
        assert saved["step"] == int(measured[-1].split(",")[0]) >= 60


def test_the_runs_end_where_their_program_was_killed(comparison, wait_for):
    process, folders = comparison
    os.kill(process.pid, signal.SIGKILL)
    assert process.end().status == -signal.SIGKILL
    wait_for(lambda: not has_members(process.pid), 10)
    assert not any((folder / "summary.json").exists() for folder in folders)
