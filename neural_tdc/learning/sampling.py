"""Experience on the device, and the three ways to index it.

A fixed policy's experience does not depend on the learner: it is collected once, and a Markov
stream, i.i.d. draws and replay are three ways to index the same tensors.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from neural_tdc.randomness import draw
from neural_tdc.types import Transition, mapped

SAMPLINGS = ("markov", "iid", "replay")


class Experience(NamedTuple):
    """Streams of transitions, several runs a stream if need be.

    transitions: leaves of shape [stream, time, …]; stream[:, t+1] goes on where stream[:, t] ended
    table:       [row, *observation] if `transitions` holds row numbers for observations, else None
    stream_index:        [run] the stream that each run learns from
    key:         [run] the key of each run's random numbers; runs that share a stream share it, so
                 that they see the same transitions and can be compared in pairs
    """

    transitions: Transition
    table: Tensor | None
    stream_index: Tensor
    key: Tensor


class Sampling(NamedTuple):
    """Which transitions make the batch of an update.

    kind:   `markov`: the next `batch` transitions of the stream, from its start again when it
            ends; `iid`: uniform draws from the whole stream; `replay`: uniform draws from what was
            seen so far, one new transition an update
    batch:  transitions an update
    window: for `replay`, how many of the latest transitions are kept; 0 for all
    """

    kind: str = "markov"
    batch: int = 1
    window: int = 0


def indices(
    sampling: Sampling,
    key: Int[Tensor, " run"],
    update: Int[Tensor, ""],
    length: int,
) -> Int[Tensor, "run batch"]:
    """Return the times that make up the batch of every run at one update."""
    batch = sampling.batch
    if sampling.kind == "markov":
        times = update * batch + torch.arange(batch, device=key.device)
        return (times % length).expand(len(key), batch)
    if sampling.kind == "iid":
        return draw(key, update, batch, torch.full_like(update, length))
    seen = (update + 1).clamp(max=length)
    held = seen.clamp(max=sampling.window) if sampling.window else seen
    return seen - held + draw(key, update, batch, held)


def gather(experience: Experience, index: Int[Tensor, "run batch"]) -> Transition:
    """Return the batch of every run, leaves of shape [run, batch, …]."""
    stream_index = experience.stream_index[:, None]
    batch = mapped(experience.transitions, lambda leaf: leaf[stream_index, index])
    if experience.table is None:
        return batch
    return batch._replace(
        observation=experience.table[batch.observation],
        next_observation=experience.table[batch.next_observation],
    )
