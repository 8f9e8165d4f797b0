"""Values of the target network that are computed once: it does not change between two copies.

A transition is drawn several times while the target stays the same: up to eight times with 10,000
frames, batches of 32, an update every 4 steps and a copy every 10,000. Only what was not asked for
since the last copy goes through the network. Which those are is known on the host. It is worth it
where the network computes on the CPU.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class TargetCache:
    """The target's values of all actions at what a replay of `rows` frames holds.

    A frame's number is its own for ever, and modulo `rows` it is its row in the replay, so what
    was written over is not mistaken for what stands there now.
    """

    def __init__(
        self, rows: int, actions: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._values = torch.zeros(rows, actions, device=device, dtype=dtype)
        self._number = np.full(rows, -1, dtype=np.int64)

    def forget(self) -> None:
        """Forget everything: the target is another now."""
        self._number.fill(-1)

    @torch.no_grad()
    def of(
        self,
        number: np.ndarray,
        observation: Shaped[Tensor, "batch ..."],
        target: nn.Module,
    ) -> Float[Tensor, "batch action"]:
        """Return the target's values of a batch; ask it for those alone that are not known.

        number: [batch] of the frame that each observation ends with
        """
        row = torch.from_numpy(number % len(self._number)).to(
            self._values.device, non_blocking=True
        )
        wanted, place = np.unique(number, return_index=True)
        new = self._number[wanted % len(self._number)] != wanted
        if new.any():
            wanted = wanted[new]
            asked = torch.from_numpy(place[new]).to(observation.device, non_blocking=True)
            found = target(observation.index_select(0, asked))
            self._values.index_copy_(0, row.index_select(0, asked), found.to(self._values.dtype))
            self._number[wanted % len(self._number)] = wanted
        return self._values.index_select(0, row)

    def state(self) -> dict[str, Any]:
        """Return what is known: the rounding of a value depends on what it was computed with."""
        known = torch.from_numpy(np.flatnonzero(self._number >= 0))
        return {
            "values": self._values.index_select(0, known.to(self._values.device)),
            "number": torch.from_numpy(self._number[known.numpy()]),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.forget()
        number = state["number"].cpu().numpy()
        row = number % len(self._number)
        self._number[row] = number
        self._values[torch.from_numpy(row).to(self._values.device)] = state["values"]
