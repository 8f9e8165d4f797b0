"""Kill a supervised run at random moments; see killing.py.

python tests/experiments/supervised_kill_trial.py FOLDER KILLS SEED
"""

import random
import time
from pathlib import Path

from killing import killed, report, wait_for_a_checkpoint

from experiments.runs.recording import recorder
from experiments.train_supervised.__main__ import train_supervised

# At every measurement: most kills then fall into the writing of some file.
recorder.CHECKPOINT_EVERY = 0.0
ARMS = ("split", "limit", "automatic-momentum")
STEPS = 320
LINE = (
    f"--task friedman --arm {' '.join(ARMS)} --runs 2 --steps {STEPS} --measure-every 4 --hidden 5 "
    "--batch 3 --automatic-high 0.1 --curvature-every 0 --response-samples 20 --compile off"
).split()


def trial(folder: Path, kills: int, chance: random.Random) -> dict[str, object]:
    """Return what the interrupted run differs in from the uninterrupted one."""

    def wait(broken: Path) -> None:
        wait_for_a_checkpoint(broken / "checkpoint.pt", time.time())
        time.sleep(chance.uniform(0.0, 0.2))

    ended = killed(train_supervised, LINE, folder, kills, wait)
    tables = [
        [(each / arm / "metrics.csv").read_bytes() for arm in ARMS]
        for each in (ended.whole, ended.broken)
    ]
    return {**ended.found(STEPS), "same_csv": tables[0] == tables[1]}


if __name__ == "__main__":
    report(trial)
