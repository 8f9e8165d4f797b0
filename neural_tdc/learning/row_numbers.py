"""Row numbers are checked before anything is learned: a device answers a wrong one by its end."""

import torch

from neural_tdc.learning.experience import Experience


def check_row_numbers(experience: Experience) -> None:
    """Raise ValueError, in one line, for a number of a row or stream that does not exist.

    A GPU would end the whole program for it, without saying where. The device is waited for once.
    """
    transitions, table = experience.transitions, experience.table
    streams, time = transitions.reward.shape
    numbers = [("stream_index", experience.stream_index, streams, "streams")]
    if table is not None:
        for name in ("observation", "next_observation"):
            numbers.append((name, getattr(transitions, name), len(table), "rows of the table"))
    if experience.rows is not None:
        numbers.append(("rows", experience.rows, time, "transitions of a stream"))
    for name, number, size, what in numbers:
        if number.device.type == "meta" or not number.numel():
            continue
        low, high = (int(each) for each in torch.aminmax(number))
        if low < 0 or high >= size:
            raise ValueError(
                f"{name} holds {low if low < 0 else high}; there are {size} {what}, "
                f"numbered from 0 to {size - 1}"
            )
