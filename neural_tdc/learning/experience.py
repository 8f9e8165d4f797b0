"""Experience on the device, and the batches that are indexed out of it.

A fixed policy's experience does not depend on the learner. It is collected once, and every
sampling scheme is a way to index the same tensors, see `neural_tdc.learning.sampling`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from neural_tdc.action_values.rows import ActionWeights
from neural_tdc.byte_rows import ByteRows, Units, unit_rows
from neural_tdc.randomness import draw
from neural_tdc.types import Transition, mapped

# Turns a key of sampling times into one of next actions.
_OF_ACTIONS = 0x5DEECE66D


class Experience(NamedTuple):
    """Streams of transitions, several runs a stream if need be.

    transitions: leaves of shape [stream, time, …]; stream[:, t+1] continues stream[:, t]
    table:       [row, *observation] if `transitions` holds row numbers for observations, else None
    stream_index:        [run] the stream that each run learns from
    key:         [run] the key of each run's random numbers; runs that share a stream share it, so
                 that they see the same transitions and can be compared in pairs
    next_action: [stream, time, draw, action] for values of continuous actions: draws from the
                 evaluated policy at the next observation, of which each use takes one anew; None
                 where rows of next observations are complete
    rows:        [run, time] the rows of its stream that each run learns from, in this order, see
                 `neural_tdc.learning.resampling`; None for the stream as it is
    of_actions:  whether values of actions are learned: a transition's ratio then weighs what
                 arrives from before it, and no error
    units:       what rows of the table have subtracted and are divided by when they are used, so
                 that a table of pictures holds bytes; None for rows as they are
    weights:     [stream, time, action] of the actions, which complete rows of a table of bytes for
                 values of actions when they are used; None where observations are complete
    """

    transitions: Transition
    table: Tensor | None
    stream_index: Tensor
    key: Tensor
    next_action: Tensor | None = None
    rows: Tensor | None = None
    of_actions: bool = False
    units: Units | None = None
    weights: ActionWeights | None = None

    def observed(self, number: Int[Tensor, "*batch"]) -> Tensor:
        """Return the observations [*batch, …] of row numbers, as they are learned from."""
        assert self.table is not None
        if self.units is None:
            return self._plain(self.table[number])
        return unit_rows(self.table, number, self.units, self.transitions.reward.dtype)

    def _plain(self, observation: Tensor) -> Tensor:
        """Return bytes as numbers, and numbers as they are."""
        if observation.dtype != torch.uint8:
            return observation
        return observation.to(self.transitions.reward.dtype)


def gather(
    experience: Experience,
    index: Int[Tensor, "run batch *segment"],
    update: Int[Tensor, ""] | int = 0,
) -> Transition:
    """Return the batch of every run, leaves of shape [run, batch, *segment, …].

    update: the number of the update, for the next actions that it draws

    Where rows are resampled, `first` is 1 as well where a row does not follow the one before.
    """
    stream_index = experience.stream_index.view(-1, *([1] * (index.dim() - 1)))
    rows, joined = experience.rows, None
    if rows is not None:
        run = torch.arange(len(rows), device=rows.device).view_as(stream_index)
        before = rows[run, (index - 1) % rows.shape[1]]
        index = rows[run, index]
        joined = index != before + 1
    batch = mapped(experience.transitions, lambda leaf: leaf[stream_index, index])
    if joined is not None:
        starts = joined.to(batch.reward.dtype)
        first = starts if batch.first is None else torch.maximum(batch.first, starts)
        batch = batch._replace(first=first)
    seen = experience._plain if experience.table is None else experience.observed
    batch = batch._replace(
        observation=seen(batch.observation), next_observation=seen(batch.next_observation)
    )
    if experience.weights is not None:
        kind, *weights = experience.weights
        of_batch = (leaf[stream_index, index] for leaf in weights)
        complete = ActionWeights(kind, *of_batch).complete(batch)
        drawn = experience.next_action is not None
        after = batch.next_observation if drawn else complete.next_observation
        batch = complete._replace(next_observation=after)
    if experience.next_action is not None:
        draws = experience.next_action.shape[2]
        size = torch.full((), draws, dtype=torch.int64, device=index.device)
        number = torch.as_tensor(update, device=index.device)
        # Another key than that of the times.
        pick = draw(experience.key ^ _OF_ACTIONS, number, index[0].numel(), size)
        action = experience.next_action[stream_index, index, pick.view(index.shape)]
        flat = batch.next_observation.flatten(index.dim())
        return batch._replace(next_observation=torch.cat([flat, action], -1))
    return batch


def with_observations(experience: Experience, stream: Transition) -> Transition:
    """Return a stream of row numbers with the table's rows, on the same device.

    Bytes of the table stay bytes until they are used.
    """
    assert experience.table is not None
    table, units = experience.table, experience.units

    def observed(number: Tensor) -> Tensor:
        if units is None:
            return table[number.long()]
        in_double = Units(*(unit.double() for unit in units))
        return ByteRows(table, number.long(), in_double, stream.reward.dtype)

    return stream._replace(
        observation=observed(stream.observation),
        next_observation=observed(stream.next_observation),
    )


def joined_segments(batch: Transition) -> Transition:
    """Put the segments of a batch one after another, [run, batch · segment, …].

    `first` is then 1 where a segment begins as well. A batch without segments is returned as it is.
    """
    if batch.reward.dim() == 2:
        return batch
    first = torch.zeros_like(batch.reward) if batch.first is None else batch.first.clone()
    first[:, :, 0] = 1
    return mapped(batch._replace(first=first), lambda leaf: leaf.flatten(1, 2))
