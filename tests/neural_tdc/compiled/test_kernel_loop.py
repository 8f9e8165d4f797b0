"""A loop in C++ over a program's kernels computes what calls of the program compute."""

import math

import pytest
import torch
from torch.utils._pytree import tree_flatten

from neural_tdc.compiled import compilation, kernel_loop
from neural_tdc.compiled.compilation import compile_repeatable

pytestmark = pytest.mark.slow
F64 = torch.float64


def function(carried, constant):
    """Carry a matrix, a vector that is drawn into it, one that never changes, and a counter."""
    matrix, vector, still, count = carried
    table, factor = constant
    row = table[count[None]][0]
    turned = (matrix * row[None, :]).tanh().sum(1) + still
    return matrix * factor + turned[:, None] * row, vector + turned, still, count + 1


def start(seed=0):
    source = torch.Generator().manual_seed(seed)
    carried = (
        torch.randn(3, 5, generator=source, dtype=F64),
        torch.randn(3, generator=source, dtype=F64),
        torch.randn(3, generator=source, dtype=F64),
        torch.zeros((), dtype=torch.int64),
    )
    table = torch.randn(12, 5, generator=source, dtype=F64)
    return carried, (table, torch.tensor(0.5, dtype=F64))


def compiled_with_its_loop(function, *arguments):
    """Compile a function; return its repeated program, and the loop or None that was tried."""
    loops = []
    original = compilation.kernel_loop

    def watched(*arguments):
        loops.append(original(*arguments))
        return loops[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "kernel_loop", watched)
        repeat = compile_repeatable(function, *arguments)
    (loop,) = loops
    return repeat, loop


@pytest.fixture(scope="module")
def compiled():
    """Return the repeated program and the loop in it, which it must have."""
    repeat, loop = compiled_with_its_loop(function, *start())
    assert loop is not None
    return repeat, loop


def test_a_stored_program_has_the_same_bits_without_the_compiler(compiled, monkeypatch):
    repeat, _ = compiled
    monkeypatch.setattr(compilation, "compiler", None)
    again = compile_repeatable(function, *start())
    for times in (0, 1, 4):
        found, expected = again(*start(3), times), repeat(*start(3), times)
        assert all(map(torch.equal, found, expected))
    monkeypatch.setenv("TORCHINDUCTOR_CPP_SIMDLEN", "1")
    with pytest.raises(TypeError, match="NoneType"):
        compile_repeatable(function, *start())


@pytest.mark.parametrize("times", [2, 3, 8, 9])
def test_many_calls_in_one_are_as_many_calls(compiled, times):
    repeat, _ = compiled
    # Other tensors than it was compiled with.
    carried, constant = start(seed=times)
    before = [leaf.clone() for leaf in tree_flatten((carried, constant))[0]]
    at_once = repeat(carried, constant, times)
    one_by_one, expected = carried, carried
    for _ in range(times):
        one_by_one = repeat(one_by_one, constant, 1)
        expected = function(expected, constant)
    for found, same, near in zip(at_once, one_by_one, expected):
        assert torch.equal(found, same)
        assert found.shape == near.shape
        torch.testing.assert_close(found, near, rtol=1e-12, atol=1e-13)
    after = tree_flatten((carried, constant))[0]
    assert all(map(torch.equal, before, after))


def test_what_was_returned_stays_as_it_is_when_it_is_called_again(compiled):
    repeat, _ = compiled
    carried, constant = start()
    first = repeat(carried, constant, 4)
    kept = [leaf.clone() for leaf in first]
    repeat(*start(seed=5), 4)
    assert all(map(torch.equal, kept, first))


def test_what_a_kernel_refuses_is_raised(compiled):
    repeat, _ = compiled
    (*carried, count), constant = start()
    with pytest.raises(RuntimeError, match="index out of bounds"):
        repeat((*carried, count + 10), constant, 3)


@pytest.mark.parametrize(("threads", "times"), [(1, 3), (2, 4), (9, 5)])
def test_blocks_are_repeated_by_several_threads_as_one_after_another(compiled, threads, times):
    repeat, loop = compiled
    each = [start(seed) for seed in range(7)]
    expected = [repeat(carried, constant, times) for carried, constant in each]
    *blocks, counts = zip(*(carried for carried, _ in each))
    # One of them lies otherwise in memory.
    joined = [torch.cat(leaves) for leaves in blocks]
    joined[0] = joined[0].mT.contiguous().mT
    found = loop([*joined, counts[0]], [constant for _, constant in each], times, threads)
    for leaf, parts in zip(found, zip(*expected), strict=True):
        assert torch.equal(leaf, torch.cat(parts) if leaf.dim() else parts[0])


def test_a_kernel_that_fails_in_one_of_the_threads_is_told(compiled):
    _, loop = compiled
    (*carried, count), constant = start()
    both = [torch.cat([leaf, leaf]) for leaf in carried]
    with pytest.raises(RuntimeError, match="index out of bounds"):
        loop([*both, count + 10], [constant] * 2, 3, 2)


def test_a_table_that_the_function_reads_belongs_to_its_loop():
    table = torch.tensor([0.5, 0.25, 2.0], dtype=F64)

    def scaled(carried, constant):
        vector, count = carried
        return vector * table.index_select(0, count.reshape(1)) + constant, count + 1

    carried = torch.tensor([1.0, 3.0], dtype=F64), torch.zeros((), dtype=torch.int64)
    one = torch.ones(2, dtype=F64)
    repeat, loop = compiled_with_its_loop(scaled, carried, one)
    assert loop is not None
    # ((x/2 + 1)/4 + 1)·2 + 1
    assert repeat(carried, one, 3)[0].tolist() == [3.75, 4.25]


def test_a_program_that_is_not_kernels_alone_is_repeated_from_python():
    def large(carried, constant):
        return torch.bmm(carried, constant).tanh()

    matrix, other = torch.randn(2, 3, 80, 80, dtype=F64) / 9
    repeat, loop = compiled_with_its_loop(large, matrix, other)
    assert loop is None
    expected = large(large(matrix, other), other)
    torch.testing.assert_close(repeat(matrix, other, 2), expected, rtol=1e-12, atol=1e-13)


def test_a_loop_that_computes_something_else_is_not_used(monkeypatch):
    loops = []
    original = compilation.kernel_loop

    def changed(program, carried, constant, key):
        calls = []

        def other(*tensors):
            calls.append(1)
            matrix, *rest = program(*tensors)
            return matrix + 1e-12 * (len(calls) == 3), *rest

        loops.append(original(other, carried, constant))
        return loops[-1]

    monkeypatch.setattr(compilation, "kernel_loop", changed)
    monkeypatch.setattr(compilation, "find_program", lambda key: (False, None))
    repeat = compile_repeatable(function, *start())
    assert loops == [None]
    assert int(repeat(*start(), 3)[3]) == 3


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ([1.0, math.nan], True),
        ([1.0 + 1e-15, math.nan], False),
        ([1.0, 2.0], False),
        ([[1.0, math.nan]], False),
    ],
)
def test_bits_are_compared_with_those_that_are_no_number(other, same):
    one = torch.tensor([1.0, math.nan], dtype=F64)
    assert kernel_loop._same_bits(one, torch.tensor(other, dtype=F64)) == same


def test_bits_of_a_single_number_are_compared():
    count = torch.tensor(3)
    assert kernel_loop._same_bits(count, count.clone())
    assert not kernel_loop._same_bits(count, count + 1)
