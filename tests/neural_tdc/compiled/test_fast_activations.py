"""Fast activations against float64: the accuracy that docs/speed.md states."""

import math

import pytest
import torch

from neural_tdc.compiled.compilation import compile_repeatable
from neural_tdc.compiled.fast_activations import fast_tanh


def everywhere():
    """Return float32 numbers over all that matters: near 0, through the bend, beyond the bound."""
    small = torch.logspace(-12, 1, 200_001, dtype=torch.float64)
    return torch.cat([small, -small, torch.linspace(-12, 12, 400_001)]).float()


def test_tanh_is_within_4e_7_of_the_value_relatively():
    x = everywhere()
    exact = torch.tanh(x.double())
    error = (fast_tanh(x).double() - exact).abs()
    assert float((error / exact.abs().clamp(min=1e-300)).max()) < 4e-7
    # It is float32 all the way: the exact one of the library is at 6e-8.
    assert float(error.max()) > 6e-8


def test_tanh_is_odd_and_never_beyond_1():
    x = everywhere()
    assert float(fast_tanh(x).abs().max()) <= 1
    assert torch.equal(fast_tanh(-x), -fast_tanh(x))


def test_tanh_of_what_is_not_finite_is_the_librarys():
    x = torch.tensor([math.inf, -math.inf, math.nan, 0.0, 1e38])
    torch.testing.assert_close(fast_tanh(x), torch.tanh(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_precision_is_left_to_the_library(dtype):
    assert fast_tanh(torch.ones(2, dtype=dtype)) is NotImplemented


@pytest.mark.slow
def test_a_compiled_tanh_is_the_fast_one_wherever_a_number_stands():
    # 37 numbers are more than two vectors and a rest, which a compiler may compute otherwise.
    x = torch.full((1, 37), 1.1)
    x[:, 11] = math.nan
    shift = torch.zeros(1, 37)
    program = compile_repeatable(lambda carried, constant: carried.tanh() + constant, x, shift)
    found = program(x, shift, 1)
    assert bool(found[0, 11].isnan())
    rest = torch.cat([found[0, :11], found[0, 12:]])
    assert torch.equal(rest, fast_tanh(torch.tensor(1.1)).expand(36))
    assert not torch.equal(rest, torch.tanh(torch.tensor(1.1)).expand(36))
