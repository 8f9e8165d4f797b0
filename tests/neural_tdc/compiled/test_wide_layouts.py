"""Matrices that are carried across compute what they compute as they are."""

import pytest
import torch

from neural_tdc.compiled.compilation import compile_for_threads
from neural_tdc.compiled.wide_layouts import of_turned, to_be_turned, turned

F64 = torch.float64


def test_a_matrix_is_turned_whose_last_axis_is_the_shorter_one():
    shapes = [(4, 3, 2), (4, 2, 3), (4, 3, 3), (3, 2), (4, 3, 2, 1)]
    assert [to_be_turned(torch.zeros(shape)) for shape in shapes] == [True, *[False] * 4]
    assert not to_be_turned(None)


def in_this_order(leaf, stride):
    return torch.empty_strided(leaf.shape, stride, dtype=leaf.dtype).copy_(leaf)


def test_a_turned_function_takes_and_returns_what_is_turned():
    def function(carried, constant):
        weight, still, bias = carried
        return weight * constant + bias[:, :, None], still, bias + 1

    carried = torch.randn(2, 5, 3), torch.randn(2, 4, 1), torch.randn(2, 5)
    flags = [to_be_turned(leaf) for leaf in carried]
    assert flags == [True, True, False]
    across = [leaf.contiguous() for leaf in turned(carried, flags)]
    found = of_turned(function, flags, in_this_order)(tuple(across), 2.0)
    expected = function(carried, 2.0)
    assert found[0].shape == (2, 3, 5)
    assert found[0].is_contiguous()
    assert all(map(torch.equal, turned(found, flags), expected))
    # What does not change is not copied.
    assert found[1] is across[1]


@pytest.mark.slow
def test_a_layer_with_few_inputs_learns_across_what_it_learns_along():
    def function(carried, constant):
        first, second = carried
        hidden = torch.bmm(constant, first.mT).tanh()
        error = torch.bmm(hidden, second.mT) - 1
        back = torch.bmm(error, second) * (1 - hidden.square())
        return (
            first - 0.01 * torch.bmm(back.mT, constant),
            second - 0.01 * torch.bmm(error.mT, hidden),
        )

    source = torch.Generator().manual_seed(0)
    first, second, observation = (
        torch.randn(shape, generator=source, dtype=F64)
        for shape in [(2, 9, 3), (2, 5, 9), (2, 4, 3)]
    )
    program = compile_for_threads(function, (first[:1], second[:1]), observation[:1])
    expected = first, second
    for _ in range(3):
        expected = function(expected, observation)
    constants = [[observation[:1]], [observation[1:]]]
    found = program([first, second], constants, 3, 2)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    # A run that diverges leaves the other one's bits.
    wild = first.clone()
    wild[0] = torch.nan
    assert torch.equal(program([wild, second], constants, 3, 2)[0][1], found[0][1])
