"""The program in JAX computes what ours does, so that their times may be compared."""

import pytest

pytest.importorskip("jax", reason="needs jax: pip install '.[bench]'")

from benchmarks.jax_peer import largest_difference


@pytest.mark.parametrize("batch", [1, 4])
def test_both_have_the_same_parameters_in_float64_after_a_hundred_updates(batch):
    # 150 transitions: at batch 4 both go through the streams again.
    assert largest_difference(3, batch) < 1e-13
