"""Large observations that stay bytes until they are used, such as the pictures of a log.

`ByteRows` takes the place of a tensor of numbers in a stream: whoever selects rows of it has
selected bytes, and whoever computes with them gets numbers. So a stream of pictures needs a quarter
of the memory that it has in float32, as long as it is used a few rows at a time (`row_blocks`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils._pytree import tree_map_only

# Rows that are used at a time: fewer where observations are large, by their numbers, but not so
# few that a product with them waits for the weights.
_ROWS, _NUMBERS, _FEWEST = 4096, 2**19, 128


class Units(NamedTuple):
    """What observations have subtracted and are divided by, both of an observation's shape."""

    shift: Tensor
    scale: Tensor


def unit_rows(table: Tensor, number: Tensor, units: Units, dtype: torch.dtype) -> Tensor:
    """Return rows of a table, [*number, *observation], in units.

    The difference is taken in the precision of the units.
    """
    numbers = table[number].to(units.shift.dtype)
    return numbers.sub_(units.shift).div_(units.scale).to(dtype)


class ByteRows(Tensor):
    """Rows of a table of bytes, in units when they are used: [*number, *observation].

    table:  [row, *observation] uint8
    number: [*number] of rows
    units:  in float64

    Selected or joined rows, another floating-point precision and another shape of the observations
    leave the bytes as they are; every other operation computes with the numbers, all of them.
    """

    table: Tensor
    number: Tensor
    units: Units

    @staticmethod
    def __new__(
        cls, table: Tensor, number: Tensor, units: Units, dtype: torch.dtype = torch.float64
    ) -> "ByteRows":
        """Make what looks like a tensor of numbers without holding any."""
        shape = (*number.shape, *table.shape[1:])
        # The documented way to make a tensor without storage, see "Extending PyTorch".
        make: Any = Tensor._make_wrapper_subclass
        rows = cast("ByteRows", make(cls, shape, dtype=dtype, device=table.device))
        rows.table, rows.number, rows.units = table, number, units
        return rows

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """Return what it is, without its numbers."""
        return f"ByteRows(shape={tuple(self.shape)}, dtype={self.dtype})"

    def numbers(self) -> Tensor:
        """Return the rows as plain numbers, [row, …]."""
        return unit_rows(self.table, self.number, self.units, self.dtype)

    def numpy(self, **how: Any) -> Any:
        """Return the numbers as an array of numpy."""
        return self.numbers().numpy(**how)

    def tolist(self) -> Any:
        """Return the numbers as a list."""
        return self.numbers().tolist()

    def _like(self, number: Tensor) -> "ByteRows":
        return ByteRows(self.table, number, self.units, self.dtype)

    def _shaped(self, shape: tuple[int, ...]) -> "ByteRows":
        """Return the rows with observations of another shape."""
        units = Units(*(unit.reshape(shape) for unit in self.units))
        return ByteRows(self.table.reshape(-1, *shape), self.number, units, self.dtype)

    def in_units(self, shift: Tensor, scale: Tensor) -> "ByteRows":
        """Return (rows − shift)/scale."""
        before = self.units
        units = Units(before.shift + shift.double() * before.scale, before.scale * scale.double())
        return ByteRows(self.table, self.number, units, self.dtype)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Select rows without their numbers; do everything else with them."""
        kwargs = kwargs or {}
        kept = _KEPT.get(function.overloadpacket)
        found = None if kept is None else kept(*args, **kwargs)
        if found is not None:
            return found
        args, kwargs = tree_map_only(ByteRows, ByteRows.numbers, (args, kwargs))
        return function(*args, **kwargs)


def _slice(rows: ByteRows, dim: int = 0, *limits: Any) -> ByteRows | None:
    if not 0 <= dim < rows.number.dim():
        return None
    return rows._like(torch.ops.aten.slice(rows.number, dim, *limits))


def _select(rows: ByteRows, dim: int, index: int) -> ByteRows | None:
    return rows._like(rows.number.select(dim, index)) if 0 <= dim < rows.number.dim() else None


def _index(rows: Any, indices: Sequence[Tensor | None]) -> ByteRows | None:
    used = sum(
        each.dim() if each is not None and each.dtype == torch.bool else 1 for each in indices
    )
    if not isinstance(rows, ByteRows) or used > rows.number.dim():
        return None
    return rows._like(torch.ops.aten.index(rows.number, indices))


def _converted(rows: ByteRows, **wanted: Any) -> ByteRows | None:
    dtype = wanted.get("dtype") or rows.dtype
    if not dtype.is_floating_point:
        return None
    device = wanted.get("device") or rows.device
    units = Units(*(unit.to(device) for unit in rows.units))
    return ByteRows(rows.table.to(device), rows.number.to(device), units, dtype)


def _view(rows: ByteRows, size: Sequence[int]) -> ByteRows | None:
    shape = torch.empty(rows.shape, device="meta").view(size).shape
    for axes in range(1, len(shape) + 1):
        if math.prod(shape[:axes]) == rows.number.numel():
            whole = rows._shaped(tuple(shape[axes:]))
            return whole._like(rows.number.reshape(shape[:axes]))
    return None


def _joined_rows(rows: Sequence[Any], dim: int = 0) -> ByteRows | None:
    first = rows[0]
    if dim != 0 or not all(isinstance(each, ByteRows) for each in rows):
        return None
    if any(each.table is not first.table or each.units is not first.units for each in rows):
        return None
    return cast("ByteRows", first._like(torch.cat([each.number for each in rows])))


# What is done without the numbers; an answer None means that it needs them after all.
_KEPT: dict[Any, Any] = {
    torch.ops.aten.slice: _slice,
    torch.ops.aten.select: _select,
    torch.ops.aten.index: _index,
    torch.ops.aten.unsqueeze: lambda rows, dim: rows._like(rows.number[None]) if dim == 0 else None,
    torch.ops.aten._to_copy: _converted,
    torch.ops.aten.view: _view,
    torch.ops.aten.cat: _joined_rows,
    torch.ops.aten.detach: lambda rows: rows._like(rows.number),
}


def byte_rows(observation: Tensor) -> Tensor:
    """Return bytes [row, *observation] as the numbers that they are; other tensors as such."""
    if observation.dtype != torch.uint8:
        return observation
    zero = observation.new_zeros(observation.shape[1:], dtype=torch.float64)
    number = torch.arange(len(observation), device=observation.device)
    return ByteRows(observation, number, Units(zero, zero + 1))


def in_given_units(
    observation: Float[Tensor, "row *shape"], shift: Tensor, scale: Tensor
) -> Float[Tensor, "row *shape"]:
    """Return (observation − shift)/scale; of bytes, once they are used."""
    if isinstance(observation, ByteRows):
        return observation.in_units(shift, scale)
    return (observation - shift) / scale


def as_numbers(observation: Tensor) -> Tensor:
    """Return observations [row, …] as plain numbers, for rows that are used several times."""
    return observation.numbers() if isinstance(observation, ByteRows) else observation


def rows_at_once(observation: Tensor) -> int:
    """Return the number of observations [row, …] that are used at a time."""
    return max(_FEWEST, min(_ROWS, _NUMBERS // max(1, math.prod(observation.shape[1:]))))


def row_blocks(observation: Tensor) -> Iterator[slice]:
    """Return the slices of observations [row, …] that are used together: few rows if large."""
    some, count = rows_at_once(observation), len(observation)
    return (slice(begin, min(begin + some, count)) for begin in range(0, count, some))


def evaluated_in_blocks(
    function: Callable[[Tensor], Tensor], observation: Float[Tensor, "row *shape"]
) -> Float[Tensor, "row *item"]:
    """Return a function's values of observations, which are used a few at a time.

    function: from observations [row, …] to [row, *item], each row by itself
    """
    # Without rows the function still tells the shape of an item.
    first, *others = [*row_blocks(observation)] or [slice(0, 0)]
    value = function(observation[first])
    if not others:
        return value
    # Not joined at the end: small results between large blocks would keep their memory apart.
    found = value.new_empty(len(observation), *value.shape[1:])
    found[first] = value
    for rows in others:
        found[rows] = function(observation[rows])
    return found


def differing(first: Tensor, second: Tensor) -> Tensor:
    """Tell in which rows two tensors of observations [row, …] differ, [row].

    Rows of one table differ where their numbers do, though they may look alike.
    """
    numbers = [each.number for each in (first, second) if isinstance(each, ByteRows)]
    tables = {each.table.data_ptr() for each in (first, second) if isinstance(each, ByteRows)}
    if len(numbers) == 2 and len(tables) == 1:
        return numbers[0] != numbers[1]
    found = [(first[rows] != second[rows]).flatten(1).any(1) for rows in row_blocks(first)]
    return torch.cat([torch.zeros(0, dtype=torch.bool, device=first.device), *found])


def byte_units(table: UInt8[Tensor, "row *shape"], number: Int[Tensor, " batch"]) -> Units:
    """Return mean and deviation of each component of rows of bytes, in float64.

    number: of the rows that count

    The scale is 1 where a component is constant. A few rows are taken at a time.
    """
    mean, deviation = _byte_moments(table, number)
    return Units(mean, torch.where(deviation == 0, 1, deviation))


def _byte_moments(table: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.zeros(table.shape[1:], dtype=torch.float64, device=table.device)
    squares = total.clone()
    for some in number.split(rows_at_once(table)):
        # Around 128 less is lost by cancellation; sums of bytes are exact.
        centred = table[some].double().sub_(128)
        total += centred.sum(0)
        squares += centred.square_().sum(0)
    mean = total / len(number)
    # Of a constant component exactly 0, since the sums are exact.
    return mean + 128, (squares / len(number) - mean.square()).clamp(min=0).sqrt()


def observation_units(observation: Float[Tensor, "time *shape"]) -> Units:
    """Return mean and deviation of every component, 1 where it is constant."""
    if not isinstance(observation, ByteRows):
        shift, scale = observation.mean(0), observation.std(0, unbiased=False)
        constant = (observation == observation[:1]).all(0)
        return Units(shift, torch.where(constant, torch.ones_like(scale), scale))
    (shift, scale), (mean, deviation) = (
        observation.units,
        _byte_moments(observation.table, observation.number),
    )
    return Units((mean - shift) / scale, torch.where(deviation == 0, 1, deviation / scale))
