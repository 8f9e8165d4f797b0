"""Methods that learn values from a stream as a whole, and what a method is to those who use it.

A learning rule sees one batch at a time; a method sees all transitions, as often as it wants. The
named methods are in `neural_tdc.baselines.methods`. A method of your own is a frozen dataclass that
inherits from `Method`, in a file of its own, and one line of `METHODS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from neural_tdc.baselines.linear_value import LinearValue, in_raw_units
from neural_tdc.baselines.log_preparation import (
    in_units,
    ordered_stream,
    value_units,
)
from neural_tdc.byte_rows import observation_units
from neural_tdc.types import Transition

OnMethodProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Method:
    """A method that learns from whole streams; its fields are its settings.

    name:   as on the command line
    passes: over the data, in words
    """

    name: ClassVar[str] = ""
    passes: ClassVar[str] = ""

    @property
    def settings(self) -> frozenset[str]:
        """Return the names of the settings that `with_settings` takes."""
        return frozenset(field.name for field in fields(self))

    def with_settings(self, **settings: Any) -> "Method":
        """Return the method with other settings; ValueError for one that it does not have."""
        if unknown := settings.keys() - self.settings:
            raise ValueError(f"{self.name} has no setting {' or '.join(sorted(unknown))}")
        return replace(self, **settings)

    def learn(
        self, streams: Sequence[Transition], seed: int, on_progress: OnMethodProgress
    ) -> list[LinearValue]:
        """Return a value function for every stream, which is the data of one run.

        streams:     [time, …] ordered, in float64. Observations are vectors whose components have
            the mean 0 and the deviation 1, returns have the deviation 1, the best constant is 0
        on_progress: is called with (how much is done, of how much)

        What is learned of stream i depends on (seed, i) and the stream only.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method learn")


def check_updates(updates: int) -> None:
    """Raise ValueError for a network that would not learn."""
    if updates < 1:
        raise ValueError(f"updates is {updates}; it must be at least 1")


def no_news(done: int, total: int) -> None:
    """Ignore how far a method is; see `OnMethodProgress`."""


def learned_values(
    method: Method,
    streams: Sequence[Transition],
    seed: int,
    on_progress: OnMethodProgress = no_news,
) -> list[LinearValue]:
    """Learn the values of raw observations, in the rewards' unit, one for every stream.

    streams: [time, …] each, in their order

    Raises ValueError in one line for transitions that cannot be.
    """
    prepared, back = [], []
    for stream in map(ordered_stream, streams):
        shift, scale = observation_units(stream.observation)
        units = value_units(stream)
        prepared.append(in_units(stream, units, shift, scale))
        back.append((units, shift, scale))
    found = method.learn(prepared, seed, on_progress)
    return [in_raw_units(value, *units) for value, units in zip(found, back)]
