"""Experience on the device, and the sampling schemes that index it.

A fixed policy's experience does not depend on the learner. It is collected once, and every
sampling scheme is a way to index the same tensors. A scheme is a frozen dataclass of its options
with the attributes of `Sampling`, and one line of `SAMPLINGS`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable

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


@runtime_checkable
class Sampling(Protocol):
    """A sampling scheme: which transitions make the batch of an update.

    batch:            transitions per update, or segments of transitions
    ordered:          whether the batches are the stream in its order, from its start again when it
                      ends
    depends_on_length: whether what is drawn depends on the length of the stream, so that a longer
                      resumed run has to keep the stream of the shorter one
    """

    ordered: ClassVar[bool]
    depends_on_length: ClassVar[bool]

    @property
    def batch(self) -> int:
        """Transitions per update, or segments of transitions."""

    def transitions(self, updates: int) -> int:
        """Return how many transitions per run so many updates need."""

    def times(
        self, key: Int[Tensor, " run"], update: Int[Tensor, ""], length: int
    ) -> Int[Tensor, "run batch *segment"]:
        """Return the times of the transitions that make up every run's batch.

        key:    random numbers of a run come from its key, by `neural_tdc.randomness.draw`
        update: the number of the update, from 0
        length: transitions in a stream

        A further axis holds the consecutive transitions of each segment. The function is compiled:
        it must not look at a tensor's values.
        """


@dataclass(frozen=True)
class MarkovSampling:
    """The next `batch` transitions of the stream, from its start again when it ends."""

    batch: int = 1

    ordered: ClassVar[bool] = True
    depends_on_length: ClassVar[bool] = False

    def transitions(self, updates: int) -> int:
        """Return the length of a stream that is gone through once."""
        return updates * self.batch

    def times(
        self, key: Int[Tensor, " run"], update: Int[Tensor, ""], length: int
    ) -> Int[Tensor, "run batch"]:
        """Return the next times in order, the same for every run."""
        times = update * self.batch + torch.arange(self.batch, device=key.device)
        return (times % length).expand(len(key), self.batch)


@dataclass(frozen=True)
class IidSampling:
    """Uniform draws from the whole stream, from the first update on."""

    batch: int = 1

    ordered: ClassVar[bool] = False
    depends_on_length: ClassVar[bool] = True

    def transitions(self, updates: int) -> int:
        """Return the size of a pool with one transition per update."""
        return updates

    def times(
        self, key: Int[Tensor, " run"], update: Int[Tensor, ""], length: int
    ) -> Int[Tensor, "run batch"]:
        """Return times drawn from [0, length)."""
        return draw(key, update, self.batch, torch.full_like(update, length))


@dataclass(frozen=True)
class ReplaySampling:
    """Uniform draws from the transitions seen so far, one of which is new at each update.

    replay_window: how many of the latest transitions are kept; 0 for all
    """

    batch: int = 1
    replay_window: int = 0

    ordered: ClassVar[bool] = False
    depends_on_length: ClassVar[bool] = False

    def transitions(self, updates: int) -> int:
        """Return the length of a stream with one new transition per update."""
        return updates

    def times(
        self, key: Int[Tensor, " run"], update: Int[Tensor, ""], length: int
    ) -> Int[Tensor, "run batch"]:
        """Return times drawn from the last `replay_window` of those before and at this update."""
        seen = (update + 1).clamp(max=length)
        held = seen.clamp(max=self.replay_window) if self.replay_window else seen
        return seen - held + draw(key, update, self.batch, held)


@dataclass(frozen=True)
class SequenceSampling:
    """Uniform draws of segments of consecutive transitions from the whole stream.

    sequence_length: transitions in a segment; `batch` is the number of segments
    """

    batch: int = 1
    sequence_length: int = 8

    ordered: ClassVar[bool] = False
    depends_on_length: ClassVar[bool] = True

    def transitions(self, updates: int) -> int:
        """Return the size of a pool with one transition per update, of a segment at least."""
        return max(updates, self.sequence_length)

    def times(
        self, key: Int[Tensor, " run"], update: Int[Tensor, ""], length: int
    ) -> Int[Tensor, "run batch segment"]:
        """Return times of segments whose starts are drawn from [0, length − sequence_length].

        Raises ValueError for a stream that is shorter than a segment.
        """
        starts = length - self.sequence_length + 1
        if starts < 1:
            raise ValueError(
                f"sequence_length {self.sequence_length} is more than the {length} transitions "
                "of the stream"
            )
        begin = draw(key, update, self.batch, torch.full_like(update, starts))
        return begin[:, :, None] + torch.arange(self.sequence_length, device=key.device)


# One line per sampling scheme. An option of a scheme has the name of the setting that gives it.
SAMPLINGS: dict[str, Any] = {
    "markov": MarkovSampling,
    "iid": IidSampling,
    "replay": ReplaySampling,
    "sequences": SequenceSampling,
}


def sampling_scheme(name: str, **options: Any) -> Sampling:
    """Return the sampling scheme of a name, with those of the options that it has.

    Raises ValueError in one line for a name that is not in `SAMPLINGS`.
    """
    if name not in SAMPLINGS:
        raise ValueError(f"sampling {name!r} is not one of {', '.join(SAMPLINGS)}")
    scheme = SAMPLINGS[name]
    own = {field.name for field in fields(scheme)}
    made: Sampling = scheme(**{option: options[option] for option in own & options.keys()})
    return made


def scheme_options() -> dict[str, list[str]]:
    """Return the options that not every sampling scheme has, with the names of those that do."""
    schemes: dict[str, list[str]] = {}
    for name, scheme in SAMPLINGS.items():
        for option in fields(scheme):
            schemes.setdefault(option.name, []).append(name)
    return {option: names for option, names in schemes.items() if len(names) < len(SAMPLINGS)}


def follows_stream(sampling: Sampling) -> bool:
    """Tell whether each update takes the stream's next transition, as a trace needs it."""
    return sampling.ordered and sampling.batch == 1


def in_segments(sampling: Sampling) -> bool:
    """Tell whether a batch is made of segments of consecutive transitions."""
    # Only the shape is asked for, of one transition: a batch may be larger than the memory.
    single: Any = replace(cast("Any", sampling), batch=1)
    zero = torch.zeros((), dtype=torch.int64)
    return bool(single.times(zero[None], zero, single.transitions(1)).dim() == 3)


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
