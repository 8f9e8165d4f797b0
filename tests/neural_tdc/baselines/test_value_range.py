from math import inf

import pytest
import torch

from neural_tdc.baselines.value_range import value_range
from neural_tdc.types import Transition


@pytest.mark.parametrize(
    ("rewards", "discounts", "expected"),
    [
        # Nothing ends: every value is a mean of rewards, times 1/(1 − γ).
        ([-1.0, 2.0], [0.9, 0.9], (-10, 20)),
        ([1.0, 2.0], [0.9, 0.9], (10, 20)),
        # An episode may end behind its first reward.
        ([1.0, 2.0], [0.9, 0.0], (1, 20)),
        ([-3.0, -1.0], [0.0, 0.9], (-30, -1)),
        ([-1.0, 2.0], [0.0, 0.9], (-10, 20)),
        # Without a discount a sum of rewards of one sign has one bound.
        ([0.0, 1.0], [1.0, 0.0], (0, inf)),
        ([-2.0, -1.0], [1.0, 0.0], (-inf, -1)),
        ([-1.0, 1.0], [1.0, 0.0], (-inf, inf)),
        # Rewards that are all alike limit nothing.
        ([1.0, 1.0], [0.9, 0.0], (-inf, inf)),
    ],
)
def test_values_lie_between_sums_of_the_least_and_of_the_largest_rewards(
    rewards, discounts, expected
):
    reward, discount = (torch.tensor(each).double() for each in (rewards, discounts))
    state = torch.zeros(2, 1)
    found = value_range(Transition(state, reward, discount, state, torch.ones(2)))
    assert found == pytest.approx(expected)
