"""Small systems that are solved side by side have the solutions of LAPACK."""

import pytest
import torch

from neural_tdc.compiled import compilation
from neural_tdc.compiled.compilation import compile_repeatable
from neural_tdc.compiled.small_systems import can_be_solved, small_solution

F64 = torch.float64


def systems(count, rows, dtype=F64):
    """Return systems with zeros on the diagonal, which cannot be solved without other pivots."""
    source = torch.Generator().manual_seed(0)
    matrix = torch.randn(count, rows, rows, generator=source, dtype=dtype)
    matrix.diagonal(dim1=1, dim2=2)[:, ::2] = 0
    return matrix, torch.randn(count, rows, 1, generator=source, dtype=dtype)


# Less than the lanes, and some more than twice as many.
@pytest.mark.parametrize(("count", "rows"), [(3, 1), (35, 7)])
def test_a_solution_is_that_of_lapack(count, rows):
    matrix, right = systems(count, rows)
    if rows == 1:
        matrix += 2
    found, expected = small_solution(matrix, right), torch.linalg.solve(matrix, right)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    # In single precision each is as far from the truth as the other.
    single = matrix.float(), right.float()
    errors = [
        (solved.double() - expected).norm()
        for solved in (small_solution(*single), torch.linalg.solve(*single))
    ]
    assert errors[0] < 5 * errors[1] + 1e-6


def test_a_system_that_has_no_solution_leaves_the_others_bits():
    matrix, right = systems(19, 4)
    expected = small_solution(matrix, right)
    matrix[5, 2], matrix[18, 1, 1] = 0, torch.nan
    found = small_solution(matrix, right)
    assert not found[5].isfinite().all()
    assert found[18].isnan().any()
    others = [number for number in range(19) if number not in (5, 18)]
    assert torch.equal(found[others], expected[others])


def test_a_solution_has_the_same_bits_wherever_its_system_stands():
    matrix, right = systems(19, 4)
    turned = small_solution(matrix.flip(0), right.flip(0)).flip(0)
    assert torch.equal(turned, small_solution(matrix, right))
    assert torch.equal(small_solution(matrix[7:8], right[7:8]), turned[7:8])


def test_what_is_solved_here():
    matrix, right = systems(20, 3)
    assert can_be_solved(matrix, right, True)
    assert not can_be_solved(matrix, right, False)
    assert not can_be_solved(matrix, right.expand(20, 3, 2), True)
    assert not can_be_solved(matrix.to("meta"), right.to("meta"), True)
    assert not can_be_solved(matrix.half(), right.half(), True)
    assert not can_be_solved(matrix[:0], right[:0], True)
    # A few large ones are left to LAPACK.
    assert [can_be_solved(*systems(count, 40), True) for count in (3, 16)] == [False, True]
    assert not can_be_solved(*systems(16, 70), True)


@pytest.mark.slow
def test_a_compiled_program_solves_in_its_loop_what_it_solves_eagerly(monkeypatch):
    loops = []
    original = compilation.kernel_loop
    monkeypatch.setattr(
        compilation, "kernel_loop", lambda *each: loops.append(original(*each)) or loops[-1]
    )

    def function(carried, constant):
        (vector,), (matrix, right) = carried, constant
        return (torch.linalg.solve_ex(matrix, right + vector)[0].tanh(),)

    matrix, right = systems(5, 3)
    start = (torch.zeros_like(right),)
    repeat = compile_repeatable(function, start, (matrix, right))
    assert loops[0] is not None
    expected = start
    for _ in range(4):
        expected = function(expected, (matrix, right))
    (found,) = repeat(start, (matrix, right), 4)
    torch.testing.assert_close(found, expected[0], rtol=1e-10, atol=1e-11)
