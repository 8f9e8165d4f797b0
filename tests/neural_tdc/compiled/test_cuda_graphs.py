"""The loop over recorded updates, with a recording that the CPU plays back."""

import pytest
import torch

from neural_tdc.compiled.cuda_graphs import UNROLLED, captured, graph_loop, write_into

CPU = torch.device("cpu")


def played_back(work, device):
    return work


def start():
    return {"x": torch.arange(3.0), "y": torch.ones(2, dtype=torch.float64)}, torch.tensor(7)


def function(carried):
    numbers, count = carried
    x, y = numbers["x"], numbers["y"]
    return {"x": 0.5 * x + count, "y": y + x[:2] * count}, count + 1


@pytest.mark.parametrize("calls", [0, 1, UNROLLED - 1, UNROLLED, 2 * UNROLLED + 3])
def test_recorded_updates_repeat_what_the_function_does(calls):
    repeat = graph_loop(function, start(), played_back)
    expected = start()
    for _ in range(calls):
        expected = function(expected)
    # Twice: what is carried begins anew at every call.
    for _ in range(2):
        numbers, count = repeat(start(), calls)
        assert torch.equal(numbers["x"], expected[0]["x"])
        assert torch.equal(numbers["y"], expected[0]["y"])
        assert int(count) == int(expected[1]) == 7 + calls


def test_what_is_returned_is_not_overwritten_by_the_next_call():
    repeat = graph_loop(function, start(), played_back)
    numbers, _ = repeat(start(), 3)
    kept = numbers["x"].clone()
    repeat(start(), 5)
    assert torch.equal(numbers["x"], kept)


def test_parts_that_are_kept_or_change_places_are_copied_as_they_were():
    repeat = graph_loop(lambda x: (x[1], x[0], x[2]), [torch.tensor([n]) for n in (1, 2, 3)],
                        played_back)  # fmt: skip
    for calls, expected in ((1, [2, 1, 3]), (2, [1, 2, 3])):
        found = repeat([torch.tensor([n]) for n in (1, 2, 3)], calls)
        assert [int(each) for each in found] == expected


def test_a_view_of_another_place_is_read_before_it_is_overwritten():
    matrix = torch.arange(4.0).view(2, 2)
    targets = [matrix, torch.zeros(2)]
    write_into(targets, [matrix.mT, matrix[1]])
    assert torch.equal(targets[0], torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
    assert torch.equal(targets[1], torch.tensor([2.0, 3.0]))


def test_updates_that_cannot_be_recorded_are_not_and_a_warning_says_why():
    def refused(work, device):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    with pytest.warns(RuntimeWarning, match="CUDA graph .* not permitted when stream is captur"):
        assert graph_loop(function, start(), refused) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_device_plays_back_what_it_recorded():
    device = torch.device("cuda")
    on_device = ({name: part.to(device) for name, part in start()[0].items()}, start()[1].cuda())
    repeat = graph_loop(function, on_device, captured)
    expected = start()
    for _ in range(UNROLLED + 2):
        expected = function(expected)
    numbers, count = repeat(on_device, UNROLLED + 2)
    assert torch.allclose(numbers["x"].cpu(), expected[0]["x"])
    assert torch.allclose(numbers["y"].cpu(), expected[0]["y"])
    assert int(count) == 7 + UNROLLED + 2
