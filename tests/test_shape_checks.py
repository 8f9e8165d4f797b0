"""Shapes in annotations are checked in all tests, in closures too where they have any."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import Constant
from tests.shape_checks import checked


def test_a_wrong_shape_is_refused_by_functions_and_by_closures():
    assert Constant()(torch.zeros(3, 2)).shape == (3, 3)
    with pytest.raises(TypeCheckError):
        Constant()(torch.zeros(3))
    factors = schedule("general")
    assert float(factors(torch.tensor(0))[0]) == 1
    with pytest.raises(TypeCheckError):
        factors(torch.zeros(2, dtype=torch.int64))


def test_only_closures_without_a_shape_are_left_as_they_are():
    def plain(value: Tensor) -> Tensor:
        return value

    def shaped(value: Float[Tensor, " run"] | None) -> Tensor | None:
        return value

    assert checked(plain) is plain
    assert checked(shaped) is not shaped
    plain.__qualname__ = "plain"
    assert checked(plain) is not plain
