"""Readers of what a run leaves in its folder."""

import json

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def strict(path):
    """Read JSON that may hold neither NaN nor infinity."""

    def never(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(), parse_constant=never)


def names(folder):
    """Return the names of the files, of event files what they share."""
    return {path.name.partition(".tfevents")[0] for path in folder.iterdir()}


def scalars(folder, tag):
    """Return the (step, value) pairs of a tag in the event files."""
    log = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in log.Scalars(tag)]


def leaves(folder):
    """Return the tensors of the checkpoint."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["leaves"]


def same_run(first, second, arms=("",)):
    """Assert that two folders hold the same measurements and the same bits."""
    for arm in arms:
        one, other = (folder / arm / "metrics.csv" for folder in (first, second))
        assert one.read_bytes() == other.read_bytes()
    pairs = list(zip(leaves(first), leaves(second), strict=True))
    assert len(pairs) > 2
    assert all(torch.equal(one, other) for one, other in pairs)
