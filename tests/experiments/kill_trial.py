"""Kill a run at random moments, resume it each time, and compare it with one left alone.

    python tests/experiments/kill_trial.py FOLDER KILLS SEED

Prints one line of JSON. The interpreter imports everything once and forks, so that a kill costs
half a second and not the start of a program.
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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import experiments.evaluation_run as evaluation_run
from experiments.command_line import main
from experiments.evaluate_policy import evaluate_policy
from experiments.run_folder import load_checkpoint

# At every measurement: most kills then fall into the writing of some file.
evaluation_run.CHECKPOINT_EVERY = 0.0
STEPS, EVERY = 3_000, 10
LINE = (
    f"--problem random-walk-tabular --features given --rule tdc --runs 3 --steps {STEPS} "
    f"--measure-every {EVERY} --compile off --schedule general --optimizer rmsprop"
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
        status = main(evaluate_policy, [*LINE, "--out", str(out), *["--resume"] * resume])
    finally:
        os._exit(status)


def trial(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Return what the interrupted run differs in from the uninterrupted one."""
    chance = random.Random(seed)
    whole, broken = folder / "whole", folder / "broken"
    _, status = os.waitpid(start(whole, False), 0)
    assert status == 0, "the uninterrupted run failed"
    done = resumed_at_checkpoint = 0
    partial_files: set[str] = set()
    while done < kills:
        child = start(broken, (broken / "config.json").exists())
        time.sleep(chance.uniform(0.1, 1.2))
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise AssertionError(f"the run ended by itself with status {status} after {done} kills")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done += 1
        resumed_at_checkpoint += (broken / "checkpoint.pt").exists()
        partial_files |= {path.name for path in broken.glob("*.partial")}
    last = load_checkpoint(broken / "checkpoint.pt")["step"]
    _, status = os.waitpid(start(broken, True), 0)
    ours, theirs = (load_checkpoint(each / "checkpoint.pt") for each in (broken, whole))
    curves = []
    for each in (broken, whole):
        events = EventAccumulator(str(each), size_guidance={"scalars": 0}).Reload()
        tags = sorted(tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/"))
        curves.append({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags})
    return {
        "kills": done,
        "kills_after_a_checkpoint": resumed_at_checkpoint,
        "killed_while_writing": sorted(partial_files),
        "step_at_last_kill": last,
        "status": status,
        "same_bits": all(map(torch.equal, ours["leaves"], theirs["leaves"])),
        "same_step": ours["step"] == theirs["step"] == STEPS,
        "same_csv": (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes(),
        "same_curves": curves[0] == curves[1],
        "points": len(curves[0]["error/rmsve"]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(trial(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
