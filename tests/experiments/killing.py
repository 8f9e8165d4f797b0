"""Kill a run at random moments, resume it each time, and compare it with one left alone.

The frame of the trials, each of which is a program of its own:

    python tests/experiments/NAME_kill_trial.py FOLDER KILLS SEED

prints one line of JSON. The interpreter imports everything once and forks, so that a kill costs
half a second and not the start of a program.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

# The project is found from here wherever a trial is started.
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from experiments.runs.command_line.program import main
from experiments.runs.folder.checkpoint import load_checkpoint

# What programs import where they use it: every forked run would import it anew.
for name in ("scipy.stats", "sklearn.datasets", "torch.utils.tensorboard"):
    importlib.import_module(name)

Program = Callable[[Sequence[str]], None]


class Ended(NamedTuple):
    """A run that was left alone, and one that was killed and resumed until it ended.

    status:                exit status of the last resumption
    step_at_last_kill:     where it went on from
    after_a_checkpoint:    how many kills found a checkpoint written
    partial_files:         files in whose writing it was killed
    """

    whole: Path
    broken: Path
    status: int
    step_at_last_kill: int
    after_a_checkpoint: int
    partial_files: set[str]

    def found(self, steps: int) -> dict[str, object]:
        """Return what both kinds of trial report of the two checkpoints."""
        ours, theirs = (load_checkpoint(each / "checkpoint.pt") for each in self[:2])
        pairs = zip(ours["leaves"], theirs["leaves"], strict=True)
        return {
            "step_at_last_kill": self.step_at_last_kill,
            "status": self.status,
            "same_bits": all(torch.equal(one, other) for one, other in pairs),
            "same_step": ours["step"] == theirs["step"] == steps,
        }


def start(program: Program, line: Sequence[str], out: Path, resume: bool) -> int:
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
        status = main(program, [*line, "--out", str(out), *["--resume"] * resume])
    finally:
        os._exit(status)


def wait_for_a_checkpoint(path: Path, since: float) -> None:
    """Return when a checkpoint was written, however slow the machine is, within a minute."""
    while time.time() < since + 60 and not (path.exists() and path.stat().st_mtime > since):
        time.sleep(0.01)


def killed(
    program: Program, line: Sequence[str], folder: Path, kills: int, wait: Callable[[Path], None]
) -> Ended:
    """Run a program to its end, and once more with so many kills.

    wait: returns when the run in the folder it is given shall be killed
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole, broken = folder / "whole", folder / "broken"
    _, status = os.waitpid(start(program, line, whole, False), 0)
    assert status == 0, "the uninterrupted run failed"
    after_a_checkpoint = 0
    partial_files: set[str] = set()
    for done in range(kills):
        child = start(program, line, broken, (broken / "config.json").exists())
        wait(broken)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise AssertionError(f"the run ended by itself with status {status} after {done} kills")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after_a_checkpoint += (broken / "checkpoint.pt").exists()
        partial_files |= {path.name for path in broken.glob("*.partial")}
    last = load_checkpoint(broken / "checkpoint.pt")["step"]
    _, status = os.waitpid(start(program, line, broken, True), 0)
    return Ended(whole, broken, status, last, after_a_checkpoint, partial_files)


def report(trial: Callable[[Path, int, random.Random], dict[str, object]]) -> None:
    """Run a trial with the arguments of the command line and print what it found."""
    torch.set_num_threads(1)
    folder, kills, seed = sys.argv[1:]
    print(json.dumps(trial(Path(folder), int(kills), random.Random(int(seed)))))
