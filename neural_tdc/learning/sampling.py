"""Sampling schemes: which transitions of the experience make the batch of an update.

A scheme is a frozen dataclass of its options with the attributes of `Sampling`, and one line of
`SAMPLINGS`. It indexes the tensors of `neural_tdc.learning.experience`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from neural_tdc.randomness import draw


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
