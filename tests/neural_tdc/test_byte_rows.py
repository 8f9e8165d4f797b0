"""Rows of bytes are a tensor of numbers to all who ask, which are not there until they are used."""

import numpy as np
import pytest
import torch

from neural_tdc import byte_rows as module
from neural_tdc.byte_rows import (
    ByteRows,
    Units,
    as_numbers,
    byte_rows,
    differing,
    in_given_units,
    observation_units,
    row_blocks,
)

NUMBER = torch.tensor([3, 1, 4, 1, 5])


def both(dtype=torch.float64):
    """Return rows of bytes, and the same as numbers."""
    draws = torch.Generator().manual_seed(0)
    table = torch.randint(0, 256, (7, 1, 3, 2), generator=draws, dtype=torch.uint8)
    table[:, 0, 1, 1] = 9
    shift, scale = torch.rand(2, 1, 3, 2, generator=draws, dtype=torch.float64) + 1
    numbers = ((table[NUMBER].double() - shift) / scale).to(dtype)
    return ByteRows(table, NUMBER, Units(shift, scale), dtype), numbers


@pytest.mark.parametrize(
    "select",
    [
        lambda rows: rows[1:4],
        lambda rows: rows[2],
        lambda rows: rows[torch.tensor([[0, 4, 4], [2, 1, 0]])],
        lambda rows: rows[torch.tensor([True, False, True, True, False])],
        lambda rows: rows[None][:, 1:],
        lambda rows: rows[None].flatten(0, 1),
        lambda rows: rows[None][torch.tensor([[True, False, True, True, False]])],
        lambda rows: rows.flatten(1),
        lambda rows: rows.reshape(5, -1)[3:],
        lambda rows: torch.cat([rows[:2], rows[3:], rows[:0]]),
        lambda rows: rows.float().double(),
        lambda rows: in_given_units(rows, torch.ones(1, 3, 2), 2 * torch.ones(1, 3, 2)),
    ],
)
def test_selected_rows_stay_bytes_and_are_the_rows_of_the_numbers(select):
    rows, numbers = map(select, both())
    assert isinstance(rows, ByteRows)
    assert rows.shape == numbers.shape
    assert rows.dtype == numbers.dtype
    torch.testing.assert_close(as_numbers(rows), numbers, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "compute",
    [
        lambda rows: rows.flatten(1) @ torch.arange(12.0).double().view(6, 2),
        lambda rows: rows[:, :, 1],
        lambda rows: rows.isfinite(),
        lambda rows: torch.cat([rows, 1 + rows]),
        lambda rows: rows.new_zeros(2, 3),
        lambda rows: torch.stack([*rows]),
        lambda rows: rows.long(),
        lambda rows: torch.tensor(rows.tolist()),
        lambda rows: torch.from_numpy(np.asarray(rows)),
        lambda rows: in_given_units(rows, torch.ones(1, 3, 2), 2 * torch.ones(1, 3, 2)).sum(),
    ],
)
def test_what_is_computed_is_that_of_the_numbers(compute):
    found, expected = map(compute, both())
    assert not isinstance(found, ByteRows)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("some", [2, 4096])
def test_units_are_those_of_the_whole_array_and_constant_components_have_the_scale_1(
    monkeypatch, some
):
    monkeypatch.setattr(module, "rows_at_once", lambda observation: some)
    rows, numbers = both()
    found, expected = observation_units(rows), observation_units(numbers)
    torch.testing.assert_close(found.shift, expected.shift)
    torch.testing.assert_close(found.scale, expected.scale)
    assert found.scale[0, 1, 1] == 1


def test_differing_rows_are_told_by_number_or_by_what_they_hold():
    rows, numbers = both()
    assert differing(rows[:-1], rows[1:]).tolist() == [True, True, True, True]
    assert differing(rows[[1, 0]], rows[[3, 2]]).tolist() == [False, True]
    copied = ByteRows(rows.table.clone(), rows.number, rows.units)
    assert differing(rows[[1, 0]], copied[[3, 2]]).tolist() == [False, True]
    assert differing(numbers[[1, 0]], numbers[[3, 2]]).tolist() == [False, True]


def test_large_observations_are_used_a_few_at_a_time():
    assert [*row_blocks(torch.empty(300, 84 * 84, device="meta"))] == [
        slice(0, 128),
        slice(128, 256),
        slice(256, 300),
    ]
    assert [*row_blocks(torch.empty(5000, 3, device="meta"))] == [slice(0, 4096), slice(4096, 5000)]
    assert [*row_blocks(torch.empty(0, 3))] == []


def test_bytes_alone_become_rows():
    pixels = torch.tensor([[0, 255], [7, 8]], dtype=torch.uint8)
    assert byte_rows(pixels).tolist() == [[0.0, 255.0], [7.0, 8.0]]
    assert repr(byte_rows(pixels)) == "ByteRows(shape=(2, 2), dtype=torch.float64)"
    assert byte_rows(pixels.float()) is not pixels
    assert not isinstance(byte_rows(pixels.float()), ByteRows)
