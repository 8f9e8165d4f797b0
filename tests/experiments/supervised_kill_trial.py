"""Kill a supervised run at random moments, resume it each time, compare it with one left alone.

    python tests/experiments/supervised_kill_trial.py FOLDER KILLS SEED

Prints one line of JSON. The interpreter imports everything once and forks, as in kill_trial.py.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import experiments.supervised_run as supervised_run
from experiments.command_line import main
from experiments.run_folder import load_checkpoint
from experiments.train_supervised import train_supervised

# At every measurement: most kills then fall into the writing of some file.
supervised_run.CHECKPOINT_EVERY = 0.0
ARMS = ("split", "limit", "automatic-momentum")
STEPS = 600
LINE = (
    f"--task friedman --arm {' '.join(ARMS)} --runs 2 --steps {STEPS} --measure-every 4 --hidden 5 "
    "--batch 3 --automatic-high 0.1 --curvature-every 0 --response-samples 20 --compile off"
).split()


def start(out: Path, resume: bool) -> int:
    """Fork a child that runs the program, and return its number."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    errors = os.open(out.parent / "errors.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    status = 99
    try:
        status = main(train_supervised, [*LINE, "--out", str(out), *["--resume"] * resume])
    finally:
        os._exit(status)


def wait_for_a_checkpoint(path: Path, since: float) -> None:
    """Return when a checkpoint was written, however slow the machine is, within a minute."""
    while time.time() < since + 60 and not (path.exists() and path.stat().st_mtime > since):
        time.sleep(0.01)


def trial(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Return what the interrupted run differs in from the uninterrupted one."""
    chance = random.Random(seed)
    whole, broken = folder / "whole", folder / "broken"
    _, status = os.waitpid(start(whole, False), 0)
    assert status == 0, "the uninterrupted run failed"
    for done in range(kills):
        child = start(broken, (broken / "config.json").exists())
        wait_for_a_checkpoint(broken / "checkpoint.pt", time.time())
        time.sleep(chance.uniform(0.0, 0.4))
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise AssertionError(f"the run ended by itself with status {status} after {done} kills")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    last = load_checkpoint(broken / "checkpoint.pt")["step"]
    _, status = os.waitpid(start(broken, True), 0)
    ours, theirs = (load_checkpoint(each / "checkpoint.pt") for each in (broken, whole))
    return {
        "step_at_last_kill": last,
        "status": status,
        "same_bits": all(map(torch.equal, ours["leaves"], theirs["leaves"])),
        "same_step": ours["step"] == theirs["step"] == STEPS,
        "same_csv": all(
            (broken / arm / "metrics.csv").read_bytes()
            == (whole / arm / "metrics.csv").read_bytes()
            for arm in ARMS
        ),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(trial(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
