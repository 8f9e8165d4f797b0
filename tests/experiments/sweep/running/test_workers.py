"""Workers of a study, and what a study does where memory is short."""

import os
import resource
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import Stopped, main
from experiments.sweep import __main__ as sweep
from experiments.sweep import run as sweep_run
from experiments.sweep.running import engines
from experiments.sweep.running import memory as sweep_memory
from experiments.sweep.running.shard import Shard, run_shard
from tests.experiments.sweep.small_study import LINE, rows_of, shards_of


def test_processes_give_the_bits_of_this_one(study, finished, tmp_path):
    two = LINE.replace("--workers 1", "--workers 2")
    assert study(f"{two} --fresh-runs 0 --out two")[0] == 0
    assert shards_of(finished) == shards_of(tmp_path / "two")


def _dies_once(shard, on_progress):
    """Stand for `run_shard` in a worker: the first one is killed, as for want of memory."""
    mark = Path(os.environ["MARK"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"diverged": np.array([shard.name])}


def _shard(name):
    settings = EvaluationSettings(problem="boyan", rule=("td",), runs=1, steps=1)
    return Shard(name, settings, [(0.1, 0.1, 0.1)], 1, False, False)


def _always_dies(shard, on_progress):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_dies_costs_its_shards_another_try(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(engines, "run_shard", _dies_once)
    shards = [_shard(name) for name in "abc"]
    found = list(engines.local(2)(shards, lambda done: None))
    assert sorted(shard.name for shard, _ in found) == ["a", "b", "c"]
    assert all(result["diverged"][0] == shard.name for shard, result in found)
    assert "a worker died; its shards are run again" in capsys.readouterr().err


@pytest.mark.usefixtures("forked_workers")
def test_workers_that_die_again_and_again_end_the_study_in_one_line(monkeypatch):
    monkeypatch.setattr(engines, "run_shard", _always_dies)
    with pytest.raises(
        Stopped, match="a worker died 4 times, probably because there was too little memory"
    ):
        list(engines.local(2)([_shard("a")], lambda done: None))


def test_a_study_that_is_cut_smaller_has_the_same_results(study, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "configurations_a_shard", lambda *_: 1)
    assert study(f"{LINE} --fresh-runs 0 --out cut")[0] == 0
    assert len(shards_of(tmp_path / "cut")) == 18
    whole, cut = (rows_of(folder / "sweep.csv") for folder in (finished, tmp_path / "cut"))
    assert [row["final_rmsve"] for row in cut] == [row["final_rmsve"] for row in whole]
    for one, other in zip(cut, whole, strict=True):
        assert float(one["auc_rmspbe"]) == pytest.approx(float(other["auc_rmspbe"]), rel=1e-9)


def test_a_population_too_large_for_the_memory_is_cut_and_not_killed(fork, tmp_path, monkeypatch):
    """A limit on the address space stands for a small machine."""
    line = shlex.split(
        "--problem boyan --width 5 --rule td --steps 1 --runs 40 --hidden 2000 --body-steps "
        "2^-60:2^-1 --ratios 1 --controls --fresh-runs 0 --workers 1 --memory 1.6"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("sensitivity_figure", "map_figure", "curves_figure"):
        monkeypatch.setattr(f"experiments.sweep.results.figures.{name}", lambda *_, **__: None)
    monkeypatch.setattr("experiments.sweep.report.relative_figure", lambda *_, **__: None)

    def limited(how):
        torch.set_num_threads(1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 800_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if how == "uncut":
            sweep_run.configurations_a_shard = lambda cell, needed, memory, workers: 10**6
        return main(sweep.sweep, [*line, "--out", how])

    uncut, cut = (fork(limited, how).end(300) for how in ("uncut", "cut"))
    assert uncut.status == 1, uncut.error
    assert "not enough memory" in uncut.error
    assert cut.status == 0, cut.error
    assert len(rows_of(tmp_path / "cut" / "sweep.csv")) == 60
    assert len(shards_of(tmp_path / "cut")) > 1


def test_a_shard_hears_all_its_run_steps():
    on_progress = []
    settings = EvaluationSettings(problem="boyan", rule=("td",), runs=4, steps=11, measure_every=3)
    shard = Shard("x", settings, [(0.0, 0.1, 0.1), (0.0, 0.2, 0.2)], 1, False, True)
    results = run_shard(shard, on_progress.append)
    assert sum(on_progress) == shard.size == 88
    assert results["steps"].tolist() == [1, 4, 7, 10, 11]
    assert results["curve/rmsve"].shape == (5, 2, 4)
    np.testing.assert_array_equal(results["curve/rmsve"][-1], results["final/rmsve"])
    np.testing.assert_allclose(results["curve/rmsve"].mean(0), results["auc/rmsve"], rtol=1e-14)


def test_the_memory_of_a_study_is_that_of_its_device(monkeypatch):
    free = {"cpu": 8e9, "cuda": 2.97e9, "meta": None}
    monkeypatch.setattr(sweep_memory, "available_bytes", lambda device: free[device.type])
    assert sweep_memory.memory_to_take(None, torch.device("cpu")) == 4e9
    assert sweep_memory.memory_to_take(None, torch.device("cuda")) == 1.485e9
    assert sweep_memory.memory_to_take(2.96, torch.device("cuda")) == 2.96e9
    said = "^--memory 7 is more than cuda has free: give at most 2.9$"
    with pytest.raises(UsageError, match=said):
        sweep_memory.memory_to_take(7.0, torch.device("cuda"))
    # A cluster's machines may have more, and where nobody can tell the user knows.
    assert sweep_memory.memory_to_take(7.0, torch.device("cuda"), here=False) == 7e9
    assert sweep_memory.memory_to_take(7.0, torch.device("meta")) == 7e9
    with pytest.raises(UsageError, match="--memory must be given"):
        sweep_memory.memory_to_take(None, torch.device("meta"))
