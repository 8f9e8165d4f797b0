"""A number of a row that does not exist is named before a device is asked for it."""

import pytest
import torch

from neural_tdc.learning.experience import Experience
from neural_tdc.learning.row_numbers import check_row_numbers
from neural_tdc.types import Transition

STREAMS, TIME, ROWS = 2, 5, 7


def experience(**changes):
    rows = torch.arange(STREAMS * TIME).view(STREAMS, TIME) % ROWS
    ones = torch.ones(STREAMS, TIME)
    stream = Transition(rows, ones, ones, (rows + 1) % ROWS, ones)
    named = {name: changes.pop(name) for name in ("observation", "next_observation")
             if name in changes}  # fmt: skip
    return Experience(
        stream._replace(**named), torch.zeros(ROWS, 3), torch.tensor([0, 1, 1]), torch.zeros(3)
    )._replace(**changes)


def one_wrong(value, *shape):
    numbers = torch.zeros(*shape, dtype=torch.int64)
    numbers.view(-1)[-1] = value
    return numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": one_wrong(ROWS, STREAMS, TIME)}, "observation holds 7; there are 7 rows"),
        ({"next_observation": one_wrong(-1, STREAMS, TIME)}, "next_observation holds -1; there"),
        ({"stream_index": one_wrong(STREAMS, 3)}, "stream_index holds 2; there are 2 streams, num"),
        ({"rows": one_wrong(TIME, 3, TIME)}, "rows holds 5; there are 5 transitions of a stream"),
    ],
)
def test_a_wrong_number_is_named_with_what_there_is(changes, message):
    with pytest.raises(ValueError, match=message):
        check_row_numbers(experience(**changes))


def test_right_numbers_and_observations_without_a_table_pass():
    check_row_numbers(experience(rows=one_wrong(TIME - 1, 3, TIME)))
    check_row_numbers(experience(table=None, observation=1e9 * torch.ones(STREAMS, TIME, 3)))
