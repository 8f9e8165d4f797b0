"""Small products are the library's, wherever a matrix stands and however it lies."""

import pytest
import torch

from neural_tdc.compiled import compilation
from neural_tdc.compiled.compilation import compile_for_threads
from neural_tdc.compiled.small_products import MOST_NUMBERS, can_be_multiplied, small_product

F64 = torch.float64
# Rows, inner size and columns: a single one, part of a vector, more than a tile in both directions.
SIZES = [(1, 1, 2), (5, 3, 7), (19, 6, 16), (7, 5, 83)]


def matrices(count, rows, columns, turned, dtype=F64, seed=0):
    """Return matrices whose numbers lie by rows or, turned, by columns."""
    source = torch.Generator().manual_seed(seed)
    shape = (count, columns, rows) if turned else (count, rows, columns)
    drawn = torch.randn(shape, generator=source, dtype=dtype)
    return drawn.mT if turned else drawn


@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_product_is_that_of_the_library_in_every_layout(rows, inner, columns, dtype):
    # Every size has another pair of layouts than its neighbour.
    turned = [columns % 2 == 1, rows % 2 == 1]
    left = matrices(3, rows, inner, turned[0], dtype)
    right = matrices(3, inner, columns, turned[1], dtype, seed=1)
    expected = torch.bmm(left.double(), right.double())
    bound = 1e-14 if dtype == F64 else 3e-6
    assert (small_product(left, right).double() - expected).abs().max() < bound * inner


@pytest.mark.parametrize("turned", [False, True])
def test_views_of_other_tensors_and_one_matrix_for_all_are_multiplied(turned):
    left = matrices(4, 9, 10, turned)[:, 2:, :5]
    right = matrices(1, 5, 6, not turned).expand(4, 5, 6)
    torch.testing.assert_close(
        small_product(left, right), torch.bmm(left, right), rtol=1e-13, atol=1e-14
    )


def test_a_matrix_that_is_not_finite_leaves_the_others_bits():
    left, right = matrices(3, 5, 4, False), matrices(3, 4, 7, True, seed=1)
    expected = small_product(left, right)
    left[1, 2, 3] = torch.nan
    right[1, 0, 0] = torch.inf
    found = small_product(left, right)
    assert found[1].isnan().any()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_a_product_has_the_same_bits_wherever_its_matrices_and_its_rows_stand():
    left, right = matrices(5, 19, 4, False), matrices(5, 4, 7, False, seed=1)
    found = small_product(left, right)
    assert torch.equal(small_product(left.flip(0), right.flip(0)).flip(0), found)
    assert torch.equal(small_product(left[3:4, 18:], right[3:4]), found[3:4, 18:])
    assert torch.equal(small_product(left[:, :, :], right[:, :, 5:]), found[:, :, 5:])


def test_what_is_multiplied_here():
    def possible(*shapes, **kind):
        return can_be_multiplied(*(torch.empty(shape, **kind) for shape in shapes))

    assert possible((3, 5, 4), (3, 4, 7))
    assert not possible((3, 5, 4), (3, 4, 1))
    assert not possible((3, 0, 4), (3, 4, 7))
    assert not possible((3, 5, 4), (3, 4, 7), dtype=torch.bfloat16)
    assert not possible((3, 5, 4), (3, 4, 7), device="meta")
    large = MOST_NUMBERS // 4
    assert possible((3, 5, 4), (3, 4, large))
    assert not possible((3, 5, 4), (3, 4, large + 1))


@pytest.mark.slow
def test_a_compiled_program_multiplies_in_its_loop_what_it_multiplies_eagerly(monkeypatch):
    loops = []
    original = compilation.kernel_loop
    monkeypatch.setattr(
        compilation, "kernel_loop", lambda *each: loops.append(original(*each)) or loops[-1]
    )

    def function(weight, observation):
        # A layer and the gradient of its weight, [run, output, input], each in another layout.
        value = torch.bmm(observation, weight.mT).tanh()
        return weight - 0.01 * torch.bmm(value.mT, observation)

    weight, observation = matrices(2, 17, 9, False), matrices(2, 33, 9, False, seed=1)
    program = compile_for_threads(function, weight, observation)
    assert loops[0] is not None
    expected = weight
    for _ in range(4):
        expected = function(expected, observation)
    (found,) = program([weight], [[observation]], 4, 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    # A run that diverges leaves the other one's bits.
    other = weight.clone()
    other[1] = torch.nan
    assert torch.equal(program([other], [[observation]], 4, 1)[0][0], found[0])
