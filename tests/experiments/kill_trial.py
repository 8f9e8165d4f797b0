"""Kill an evaluation of a policy at random moments; see killing.py.

python tests/experiments/kill_trial.py FOLDER KILLS SEED
"""

import itertools
import random
import time
from pathlib import Path

from killing import killed, report, wait_for_a_checkpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.evaluate_policy.__main__ import evaluate_policy
from experiments.runs.recording import recorder

# At every measurement: most kills then fall into the writing of some file.
recorder.CHECKPOINT_EVERY = 0.0
STEPS, EVERY = 800, 10
LINE = (
    f"--problem random-walk-tabular --features given --rule tdc --runs 3 --steps {STEPS} "
    f"--measure-every {EVERY} --compile off --schedule general --optimizer rmsprop"
).split()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run, but for its speed."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = sorted(tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/"))
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def trial(folder: Path, kills: int, chance: random.Random) -> dict[str, object]:
    """Return what the interrupted run differs in from the uninterrupted one."""
    kinds = itertools.cycle((True, False))

    def wait(broken: Path) -> None:
        # Every second kill may come before anything is saved, however slow the machine is.
        if next(kinds):
            wait_for_a_checkpoint(broken / "checkpoint.pt", time.time())
        time.sleep(chance.uniform(0.0, 0.2))

    ended = killed(evaluate_policy, LINE, folder, kills, wait)
    whole, broken = ended.whole, ended.broken
    shown = curves(broken)
    return {
        "kills": kills,
        "kills_after_a_checkpoint": ended.after_a_checkpoint,
        "killed_while_writing": sorted(ended.partial_files),
        **ended.found(STEPS),
        "same_csv": (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes(),
        "same_curves": shown == curves(whole),
        "points": len(shown["error/rmsve"]),
    }


if __name__ == "__main__":
    report(trial)
