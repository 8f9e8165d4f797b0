"""An update of deep Q-learning as a CUDA graph: one start in place of some hundred."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.dqn.batch import Batch
from neural_tdc.compiled.cuda_graphs import (
    WARM_UPS,
    Work,
    captured,
    on_side_stream,
    warn_without_graph,
    write_into,
)

Update = Callable[[Batch], tuple[Tensor, Tensor]]


def _on_device(batch: Batch) -> dict[str, Tensor]:
    """Return what of a batch lies on the device, by name."""
    return {name: leaf for name, leaf in batch._asdict().items() if isinstance(leaf, Tensor)}


class UpdateGraph:
    """An update that is recorded once it has run a few times; it runs as it is until then.

    update:  from a batch to loss and mean value; changes tensors that stay where they are
    reset:   called where a recording has failed, before updates run as they are
    capture: what records

    A batch of another shape than the recorded one is taken by the update as it is.
    """

    def __init__(
        self,
        update: Update,
        reset: Callable[[], None],
        capture: Callable[[Work, torch.device], Work] = captured,
    ) -> None:
        self._update, self._reset, self._capture = update, reset, capture
        self._failed = False
        self.forget()

    def forget(self) -> None:
        """Record anew: tensors that the update changes are others now."""
        self._calls = 0
        self._replay: Work | None = None
        self._given: list[Tensor] = []
        self._found: list[Tensor] = []

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return loss and mean value of an update."""
        tensors = list(_on_device(batch).values())
        self._calls += 1
        if self._failed:
            return self._update(batch)
        if self._calls <= WARM_UPS:
            with on_side_stream(tensors[0].device):
                return self._update(batch)
        if self._replay is None:
            self._record(batch)
        if self._replay is None or any(
            one.shape != other.shape for one, other in zip(self._given, tensors)
        ):
            return self._update(batch)
        write_into(self._given, tensors)
        self._replay()
        loss, value = (each.clone() for each in self._found)
        return loss, value

    def _record(self, batch: Batch) -> None:
        """Record the update of a batch of this shape, without taking it."""
        named: dict[str, Any] = {name: leaf.clone() for name, leaf in _on_device(batch).items()}
        self._given = list(named.values())
        static = batch._replace(**named)

        def work() -> None:
            self._found = list(self._update(static))

        try:
            self._replay = self._capture(work, self._given[0].device)
        except RuntimeError as error:
            self._failed = True
            self._reset()
            warn_without_graph(error)
