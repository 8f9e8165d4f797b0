"""Values of many candidates at both states of every transition of a stream, each stored once."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural_tdc.byte_rows import row_blocks


class StreamValues(NamedTuple):
    """Values of candidates at s and s' of an ordered stream.

    value:       [time, candidate] V(s)
    apart:       [few] the numbers of the transitions whose s' is not the next transition's s; the
        last transition is one of them
    apart_value: [few, candidate] V(s') of these; every other V(s') is the next row of `value`

    Values may be stored in float32. All sums are computed in float64, some rows at a time.
    """

    value: Float[Tensor, "time candidate"]
    apart: Int[Tensor, " few"]
    apart_value: Float[Tensor, "few candidate"]

    @property
    def finite(self) -> Bool[Tensor, " candidate"]:
        """Tell which candidates have only finite values."""
        # A sum is not finite if one of its terms is not, and needs no tensor of the same size.
        return (self.value.sum(0) + self.apart_value.sum(0)).isfinite()

    def of(self, candidates: Tensor) -> "StreamValues":
        """Return the values of some candidates: a copy, and these values if all are wanted."""
        if bool(candidates.all()):
            return self
        return StreamValues(self.value[:, candidates], self.apart, self.apart_value[:, candidates])

    def blocks(
        self,
    ) -> Iterator[tuple[slice, Float[Tensor, "block candidate"], Float[Tensor, "block candidate"]]]:
        """Go through the stream with V(s) and V(s') of some transitions at a time, in float64."""
        for rows in row_blocks(self.value):
            here = self.value[rows].double()
            following = torch.empty_like(here)
            after = self.value[rows.start + 1 : rows.stop + 1]
            following[: len(after)] = after
            inside = (self.apart >= rows.start) & (self.apart < rows.stop)
            following[self.apart[inside] - rows.start] = self.apart_value[inside].double()
            yield rows, here, following

    def gram(self) -> Float[Tensor, "candidate candidate"]:
        """Return the mean of V_i(s)·V_j(s) over the stream."""
        count = self.value.shape[1]
        total = torch.zeros(count, count, dtype=torch.float64, device=self.value.device)
        for rows in row_blocks(self.value):
            here = self.value[rows].double()
            total.addmm_(here.T, here)
        return total / len(self.value)

    def products(self, target: Float[Tensor, " time"]) -> Float[Tensor, " candidate"]:
        """Return the mean of V_i(s)·target over the stream."""
        total = target.new_zeros(self.value.shape[1])
        for rows in row_blocks(self.value):
            total += self.value[rows].double().T @ target[rows]
        return total / len(self.value)

    def weighted(
        self, weights: Float[Tensor, " candidate"]
    ) -> tuple[Float[Tensor, " time"], Float[Tensor, " time"]]:
        """Return the weighted sum of the candidates at s and at s'."""
        value = torch.cat([self.value[rows].double() @ weights for rows in row_blocks(self.value)])
        following = value.roll(-1)
        following[self.apart] = self.apart_value.double() @ weights
        return value, following


def stream_values(
    value: Float[Tensor, "time candidate"], next_value: Float[Tensor, "time candidate"]
) -> StreamValues:
    """Return values that are known at s and at s' of every transition."""
    return StreamValues(value, torch.arange(len(value), device=value.device), next_value)
