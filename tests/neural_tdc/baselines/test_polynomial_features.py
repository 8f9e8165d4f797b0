"""LSTD on polynomials, against NumPy on monomials and against values known by hand."""

import numpy as np
import pytest
import torch

from neural_tdc.baselines.candidates import Folds, group_values, least_squares_group
from neural_tdc.baselines.polynomial_features import polynomial_blocks
from neural_tdc.types import Transition

TIME, GAMMA, DECAY = 60, 0.9, 0.7


def stream(inputs):
    source = torch.Generator().manual_seed(3)
    state = torch.randn(TIME + 1, inputs, generator=source, dtype=torch.float64)
    ones = torch.ones(TIME, dtype=torch.float64)
    ratio = 0.5 + torch.rand(TIME, generator=source, dtype=torch.float64)
    first = (torch.arange(TIME) % 20 == 0).double()
    return Transition(state[:-1], state[:-1, 0].sin(), GAMMA * ones, state[1:], ratio, first)


def test_values_are_those_of_numpy_with_monomials_as_features():
    data = stream(2)

    def monomials(state):
        x, y = np.asarray(state).T
        return np.stack([x, y, x * x, x * y, y * y, np.ones_like(x)], 1)

    here, there = monomials(data.observation), monomials(data.next_observation)
    A, b, trace = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    for t in range(TIME):
        carried = 0 if data.first[t] else GAMMA * DECAY
        trace = float(data.ratio[t]) * (carried * trace + here[t])
        A += np.outer(trace, here[t] - GAMMA * there[t])
        b += trace * float(data.reward[t])
    expected = here @ np.linalg.solve(A, b)
    blocks = polynomial_blocks(2)
    group = least_squares_group("any", Folds([data], [[0]]), [blocks], [DECAY], [0.0])
    found = group_values(group, 0, data.observation)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_quadratic_values_of_a_linear_system_are_exact():
    state = torch.linspace(-2, 1, 7, dtype=torch.float64)[:, None]
    ones = torch.ones(7, dtype=torch.float64)
    # x' = x/2 with the reward x²: V = x²/(1 − γ/4).
    data = Transition(state, state[:, 0].square(), GAMMA * ones, state / 2, ones, ones)
    group = least_squares_group("any", Folds([data], [[0]]), [polynomial_blocks(1)], [0.0], [0.0])
    values = group_values(group, 0, state)[:, 0]
    torch.testing.assert_close(values, state[:, 0].square() / 0.775)


@pytest.mark.parametrize(("inputs", "sizes"), [(21, [21, 231]), (22, [22]), (257, [])])
def test_the_degree_is_lower_where_there_are_many_inputs(inputs, sizes):
    assert [len(block.layers[-1].bias) for block in polynomial_blocks(inputs)] == sizes
