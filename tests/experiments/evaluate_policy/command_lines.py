"""Short command lines of the program, and readers of what they leave."""

import json

WALK = "--problem random-walk-tabular --compile off"
TINY = "--runs 3 --steps 10 --measure-every 4"


def strict(path):
    """Read JSON that may hold neither NaN nor infinity."""

    def never(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(), parse_constant=never)


def names(folder):
    return {path.name.partition(".tfevents")[0] for path in folder.iterdir()}


RUN_FILES = {
    "config.json",
    "events.out",
    "metrics.csv",
    "summary.json",
    "figure.png",
    "value.pt",
    "checkpoint.pt",
}
