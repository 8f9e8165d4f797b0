"""Short command lines of the program, and readers of what they leave."""

WALK = "--problem random-walk-tabular --compile off"
TINY = "--runs 3 --steps 10 --measure-every 4"


RUN_FILES = {
    "config.json",
    "events.out",
    "metrics.csv",
    "summary.json",
    "figure.png",
    "values.png",
    "value.pt",
    "checkpoint.pt",
}
