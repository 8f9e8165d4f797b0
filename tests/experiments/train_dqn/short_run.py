"""A short run of the program that trains, and readers of what it leaves."""

import csv

import torch

from experiments.runs.folder.checkpoint import load_checkpoint

SHORT = (
    "--problem CartPole-v1 --update-every 1 --learning-starts 60 --measure-every 100 "
    "--evaluate-every 200 --evaluation-episodes 3 --replay-capacity 300 --batch 16 "
    "--hidden 8 --features 6 --epsilon-steps 200 --target-period 40 --rate-last 1"
)
TINY = f"{SHORT} --steps 400"


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder):
    return load_checkpoint(folder / "checkpoint.pt")["training"]["learner"]["network"]


def same_weights(one, other):
    return all(torch.equal(weights(one)[name], value) for name, value in weights(other).items())
