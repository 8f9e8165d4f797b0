"""Compiled programs against what they were made from."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from neural_tdc.compilation import SMALL_PRODUCT, compile_repeatable, written_out


def test_a_small_product_is_written_out_and_equals_the_library_s():
    left = torch.randn(5, 2, 3, dtype=torch.float64)
    right = torch.randn(5, 3, 4, dtype=torch.float64)
    assert torch.allclose(written_out(left, right), torch.bmm(left, right), atol=1e-14)


@pytest.mark.parametrize(("rows", "kept"), [(SMALL_PRODUCT // 64, False), (SMALL_PRODUCT, True)])
def test_only_a_large_product_is_left_to_the_library(rows, kept):
    table = {torch.ops.aten.bmm.default: written_out}
    graph = make_fx(torch.bmm, decomposition_table=table)(
        torch.zeros(2, rows, 8), torch.zeros(2, 8, 8)
    )
    targets = [node.target for node in graph.graph.nodes]
    assert (torch.ops.aten.bmm.default in targets) == kept


@pytest.mark.slow
def test_a_compiled_function_repeats_what_the_function_does():
    def function(carried, constant):
        matrix, count = carried
        (factor,) = constant["factors"]
        return torch.bmm(matrix, matrix).tanh() * factor, count + 1

    matrix = torch.randn(3, 2, 2, dtype=torch.float64)
    count = torch.zeros((), dtype=torch.int64)
    constant = {"factors": (torch.tensor(0.5, dtype=torch.float64),), "nothing": None}
    program = compile_repeatable(function, (matrix, count), constant)
    expected = (matrix, count)
    for _ in range(3):
        expected = function(expected, constant)
    result = program((matrix, count), 3)
    assert torch.allclose(result[0], expected[0], atol=1e-14)
    assert int(result[1]) == 3
    assert program((matrix, count), 0)[0] is matrix
