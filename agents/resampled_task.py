"""A task whose runs learn from resamples of one log, and what the data of a task can tell."""

from typing import NamedTuple

import torch

from agents.task import Task
from neural_tdc.learning.resampling import FEW_UNITS, resampled_rows, resampling_units
from neural_tdc.metrics.selection import effective_sample_size
from neural_tdc.randomness import keys
from neural_tdc.types import Transition, mapped

# Shares of the transitions in effect, and of the weight on one row, that are warned of.
_FEW, _MUCH = 0.1, 0.05


def resampled(task: Task, runs: int, seed: int) -> Task:
    """Return the task whose run 0 learns from the first stream and the others from draws of it.

    The other runs have episodes (or blocks) of this stream, drawn with replacement. Run 0 learns
    the same bits as without resampling. Raises ValueError in one line for a stream of one episode.
    """
    whole = task.experience
    stream = mapped(whole.transitions, lambda leaf: leaf[:1])
    units = resampling_units(mapped(stream, lambda leaf: leaf[0]))
    device = whole.stream_index.device
    experience = whole._replace(
        transitions=stream,
        stream_index=torch.zeros(runs, dtype=torch.int64, device=device),
        key=keys(seed, runs, "sampling").to(device),
        next_action=None if whole.next_action is None else whole.next_action[:1],
        rows=resampled_rows(units.number, runs, seed).to(device),
    )
    note = (
        f"resampling: run 0 learns from the data as they are, each other run from {units} of them "
        "drawn with replacement"
    )
    return task._replace(
        experience=experience,
        truncates=task.truncates or units.kind == "blocks",
        notes=(*task.notes, note),
        resampled=str(units),
    )


class Evidence(NamedTuple):
    """How much data an estimate rests on.

    transitions: in a run's data
    units:       episodes or blocks of it, in words
    unit_count:  how many
    effective:   (Σρ)²/Σρ², the number of equally weighted transitions that say as much
    largest:     the largest importance ratio ρ
    share:       the part of Σρ that the row with the largest ratio has
    off_policy:  whether any ratio differs from 1
    """

    transitions: int
    units: str
    unit_count: int
    effective: float
    largest: float
    share: float
    off_policy: bool

    def __str__(self) -> str:
        """Return effective sample size and largest ratio in words; "" on-policy."""
        if not self.off_policy:
            return ""
        return (
            f"effective sample size {self.effective:,.0f} of {self.transitions:,} transitions, "
            f"largest ratio {self.largest:.3g}"
        )

    def warnings(self) -> list[str]:
        """Return a line for each reason why the data cannot tell much."""
        lines = []
        if self.unit_count < FEW_UNITS:
            lines.append(
                f"warning: the data hold {self.units}, too few to tell how much another log of "
                "this size would differ"
            )
        if self.effective < _FEW * self.transitions:
            lines.append(
                f"warning: the importance ratios leave {self.effective:,.0f} of "
                f"{self.transitions:,} transitions in effect"
            )
        if self.off_policy and self.share > _MUCH:
            lines.append(
                f"warning: one transition has {self.share:.0%} of the weight of all "
                f"{self.transitions:,}"
            )
        return lines


def evidence(stream: Transition) -> Evidence:
    """Return how much data a stream holds, leaves [time, …]."""
    try:
        units = resampling_units(stream)
        words, count = str(units), units.unit_count
    except ValueError:
        words, count = "1 episode", 1
    ratio = stream.ratio.double()
    largest = float(ratio.max())
    return Evidence(
        len(ratio),
        words,
        count,
        effective_sample_size(ratio),
        largest,
        largest / max(float(ratio.sum()), 1e-300),
        bool((ratio != 1).any()),
    )
