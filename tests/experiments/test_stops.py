"""Every program: SIGTERM at work is saved and resumed to the same bits; one process per folder."""

import json
import os
import pkgutil
import signal
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.compare_dqn.__main__ import compare_dqn
from experiments.convergence.__main__ import convergence
from experiments.evaluate_policy.__main__ import evaluate_policy
from experiments.landscape.__main__ import draw_landscape
from experiments.runs.command_line.program import main
from experiments.runs.folder.checkpoint import load_checkpoint
from experiments.runs.folder.run_lock import locked
from experiments.runs.results.phases import PHASES
from experiments.sweep.__main__ import sweep
from experiments.train_dqn.__main__ import train_dqn
from experiments.train_supervised.__main__ import train_supervised
from experiments.two_step.__main__ import two_step

DQN = (
    "--problem CartPole-v1 --update-every 1 --learning-starts 60 --measure-every 60 --steps 180 "
    "--evaluate-every 120 --evaluation-episodes 2 --replay-capacity 300 --batch 16 --hidden 8 "
    "--features 6 --save-replay"
)
SUPERVISED = (
    "--runs 2 --steps 9 --measure-every 3 --hidden 4 --batch 3 --compile off --body-step 0.001 "
    "--head-step 0.01 --curvature-products 2 --curvature-samples 20"
)
# The program, a small run of it, and the function in whose call of that number SIGTERM comes.
PROGRAMS = {
    "evaluate_policy": (
        evaluate_policy,
        "--problem random-walk-tabular --rule td tdc --runs 3 --steps 14 --measure-every 4 "
        "--compile off --optimizer rmsprop",
        "experiments.runs.results.history.History.append",
        8,
    ),
    "evaluate_policy, auto": (
        evaluate_policy,
        "--problem boyan --rule td auto --runs 2 --steps 480 --measure-every 240 --updates 5 "
        "--compile off",
        "neural_tdc.baselines.search.families.fit_lambda_returns",
        1,
    ),
    "train_supervised": (
        train_supervised,
        f"--task friedman --arm split limit --response-samples 30 {SUPERVISED}",
        "experiments.runs.results.history.History.append",
        6,
    ),
    "landscape": (
        draw_landscape,
        f"--at 0 6 --grid 3 {SUPERVISED}",
        "experiments.runs.results.history.History.append",
        4,
    ),
    "train_dqn": (train_dqn, DQN, "experiments.runs.results.history.History.append", 2),
    "compare_dqn": (
        compare_dqn,
        f"--arm split body --seeds 1 --random-games 2 {DQN}",
        "experiments.runs.results.history.History.append",
        5,
    ),
    "convergence": (
        convergence,
        "--instance scalar --runs 3 --steps 110",
        "experiments.runs.results.history.History.append",
        4,
    ),
    "two_step": (
        two_step,
        "--width 6 --draws 20 --sums 0.4 0.1 --optima 3 --optima-width 4",
        "experiments.two_step.optima.optimum",
        4,
    ),
    "sweep": (
        sweep,
        "--problem boyan --width 5 --rule td tdc --steps 7 --runs 3 --measure-every 3 "
        "--body-steps 0.0078125 --ratios 1 8 --auxiliary-ratios 1 --workers 1 --memory 3 "
        "--fresh-runs 2",
        "experiments.sweep.running.engines.run_shard",
        2,
    ),
}
# What differs between two runs of one command.
CLOCK = ("date", "seconds", "family_seconds", "run_steps_per_second", "agent_steps_per_second")
every_program = pytest.mark.parametrize("name", PROGRAMS)


pytestmark = pytest.mark.usefixtures("no_figures")


def plain(value):
    """Return what a checkpoint or a JSON file holds as values that compare, without the clock."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in CLOCK}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return (str(value.dtype), value.tolist()) if isinstance(value, torch.Tensor) else value


def curves(folder):
    """Return what TensorBoard shows of a folder, but for its speed."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def contents(out):
    """Return all that a run has left, by its path, such that two runs can be compared."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text()))
        elif path.name == "checkpoint.pt":
            found[name] = repr(plain(load_checkpoint(path)))
        elif ".tfevents." in name:
            found[str(path.parent.relative_to(out))] = curves(path.parent)
        elif path.is_file() and path.suffix in (".csv", ".pt"):
            found[name] = path.read_bytes()
    return found


def check_accounts(out):
    """Check that the summaries of a run hold its seconds by phase."""
    found = [json.loads(path.read_text()).get("seconds") for path in out.rglob("summary.json")]
    # The common summary of several rules holds theirs.
    accounts = [each for each in found if each is not None]
    assert accounts
    for account in accounts:
        assert list(account) == list(PHASES)
        assert account["learn"] > 0
        assert account["write"] > 0


@every_program
def test_sigterm_at_work_is_saved_and_resumed_to_the_same_bits(
    run_program, tmp_path, monkeypatch, name
):
    program, line, function, call = PROGRAMS[name]
    whole = run_program(program, f"{line} --out whole")
    assert whole.status == 0, whole.error
    assert whole.out.splitlines()[-1].startswith("seconds: ")
    check_accounts(tmp_path / "whole")
    stopped_at, calls = pkgutil.resolve_name(function), []

    def terminated(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return stopped_at(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(function, terminated)
        stopped = run_program(program, f"{line} --out parts")
    assert stopped.status == 143, stopped.error
    command = f"python -m experiments.{name.partition(',')[0]} {line} --out parts --resume"
    assert stopped.lines[-1] == f"stopped; continue with: {command}"
    assert "Traceback" not in stopped.error
    assert not list(tmp_path.rglob("run.lock"))
    again = run_program(program, f"{line} --out parts --resume")
    assert again.status == 0, again.error
    assert ("auto: the search was stopped" in again.out) == ("auto" in name)
    one, other = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert any(path.endswith("checkpoint.pt") for path in one)
    for path, content in one.items():
        assert other[path] == content, path


@every_program
@pytest.mark.parametrize("how", ["", "--resume", "--overwrite"])
def test_a_folder_at_which_another_process_works_is_refused(refused, tmp_path, name, how):
    program, line, _, _ = PROGRAMS[name]
    if name == "compare_dqn" and how == "--overwrite":
        pytest.skip("a comparison has no such flag")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        said = f"--out out: another process is working on it (pid {os.getpid()}"
        refused(program, f"{line} --out out {how}", said)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text(encoding="utf-8").split()]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_ended_leaves_no_worker(fork, wait_for, tmp_path, monkeypatch, how):
    line = (
        "--problem boyan --rule td tdc --steps 1000000 --runs 3 --body-steps 0.0625 0.125 0.25 "
        "--ratios 1 --workers 2 --out study"
    )
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / "begun"

    def endless(shard, on_progress):
        with begun.open("a") as file:
            file.write(f"{shard.name}\n")
        time.sleep(600)

    monkeypatch.setattr("experiments.sweep.running.engines.run_shard", endless)
    process = fork(main, sweep, line.split())
    # Both workers are at work.
    wait_for(lambda: begun.exists() and len(begun.read_text().splitlines()) == 2)
    children = children_of(process.pid)
    assert len(children) >= 2
    os.kill(process.pid, how)
    ended = process.end()
    wait_for(lambda: not any(map(is_running, children)), 30)
    assert ended.status == (143 if how is signal.SIGTERM else -how)
    if how is signal.SIGTERM:
        assert ended.lines[-1] == (
            f"stopped; continue with: python -m experiments.sweep {line} --resume"
        )
        assert "Traceback" not in ended.error
    # The folder is free, whichever way the process ended.
    with locked(tmp_path / "study"):
        pass
