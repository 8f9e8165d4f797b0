"""Errors from second moments, against brute force and hand-computed literals."""

import math

import pytest
import torch

from neural_tdc.metrics import value_errors as errors
from neural_tdc.metrics.value_errors import Moments

STATES, D, RUNS = 7, 4, 3


def random(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def random_chain(seed=0):
    """Return P with an end here and there, r, γ and d."""
    source = torch.Generator().manual_seed(seed)
    rows = torch.rand(STATES, STATES + 1, generator=source, dtype=torch.float64)
    transition = (rows / rows.sum(1, keepdim=True))[:, :-1]
    weighting = torch.rand(STATES, generator=source, dtype=torch.float64)
    return transition, random(STATES, seed=seed + 1), 0.9, weighting / weighting.sum()


def random_run(seed=0, d=D):
    transition, reward, discount, weighting = random_chain(seed)
    features = random(STATES, d, seed=seed + 2)
    weighted = features.T * weighting
    following = discount * transition @ features
    moments = Moments(weighted @ (features - following), weighted @ reward, weighted @ features)
    return moments, features, weighting, random(d, seed=seed + 3), random(d, seed=seed + 4)


def test_mspbe_is_the_weighted_size_of_the_projected_bellman_residual():
    transition, reward, discount, weighting = random_chain()
    moments, features, _, head, _ = random_run()
    values = features @ head
    residual = reward + discount * transition @ values - values
    # The projection as an explicit weighted least-squares fit.
    root = weighting.sqrt()[:, None]
    fit = torch.linalg.lstsq(root * features, root * residual[:, None]).solution[:, 0]
    expected = (weighting * (features @ fit).square()).sum()
    assert errors.mspbe(moments, head) == pytest.approx(float(expected), rel=1e-12)


def test_a_feature_that_stands_twice_leaves_the_mspbe_as_it_is():
    moments, _, _, head, _ = random_run()
    twice = torch.cat([torch.eye(D), torch.eye(D)[:, :1]], 1).double()
    doubled = Moments(
        twice.T @ moments.A @ twice, twice.T @ moments.b0, twice.T @ moments.C @ twice
    )
    longer = torch.cat([head, torch.zeros(1, dtype=torch.float64)])
    before = float(errors.mspbe(moments, head))
    assert errors.mspbe(doubled, longer) == pytest.approx(before, rel=1e-10)
    assert before > 0.01


def test_directions_below_the_cut_are_dropped_and_those_above_are_kept():
    b0 = torch.tensor([2.0, 3.0], dtype=torch.float64)
    head = torch.zeros(2, dtype=torch.float64)
    for small, expected in ((1e-11, 4.0), (1e-9, 4.0 + 9e9)):
        C = torch.tensor([1.0, small], dtype=torch.float64).diag()
        found = errors.mspbe(Moments(C, b0, C), head)
        assert found == pytest.approx(expected, rel=1e-6)


def test_td_fixed_point_makes_the_mspbe_zero():
    moments = random_run()[0]
    fixed_point = errors.td_fixed_point(moments)
    torch.testing.assert_close(moments.A @ fixed_point, moments.b0, atol=1e-13, rtol=0)
    assert errors.mspbe(moments, fixed_point) < 1e-24


def test_td_fixed_point_of_a_singular_matrix_is_the_shortest_solution():
    A = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    b0 = torch.tensor([4.0, 4.0], dtype=torch.float64)
    found = errors.td_fixed_point(Moments(A, b0, A))
    torch.testing.assert_close(found, torch.tensor([2.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("regulariser", [0.0, 0.3, 1.0])
def test_auxiliary_solution_solves_the_regularised_equation(regulariser):
    moments, _, _, head, _ = random_run()
    omega = errors.auxiliary_solution(moments, head, regulariser)
    regularised = moments.C + regulariser * torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(regularised @ omega, moments.b0 - moments.A @ head)


def test_best_linear_is_weighted_least_squares():
    _, features, weighting, _, _ = random_run()
    value = random(STATES, seed=9)
    root = weighting.sqrt()[:, None]
    expected = torch.linalg.lstsq(root * features, root * value[:, None]).solution[:, 0]
    torch.testing.assert_close(errors.best_linear(features, weighting, value), expected)


def test_rmsve_by_hand():
    values = torch.tensor([1.0, 5.0, 0.0], dtype=torch.float64)
    value = torch.tensor([2.0, 3.0, 7.0], dtype=torch.float64)
    weighting = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64)
    # .25 · 1 + .75 · 4 = 3.25
    assert errors.rmsve(values, value, weighting) == pytest.approx(math.sqrt(3.25))


def test_the_squared_error_of_a_monte_carlo_truth_is_subtracted_and_cut_off_at_zero():
    values = torch.tensor([1.0, 5.0], dtype=torch.float64)
    value = torch.tensor([2.0, 3.0], dtype=torch.float64)
    weighting = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert errors.rmsve(values, value, weighting, 1.0) == pytest.approx(1.5)
    assert errors.rmsve(values, value, weighting, 4.0) == 0


def test_a_column_of_values_against_a_row_is_refused():
    with pytest.raises(Exception, match="rmsve"):
        errors.rmsve(random(STATES, 1), random(STATES), torch.full((STATES,), 1 / 7).double())


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [
        ([1.0, 1.0, 1.0], 3.0),
        ([5.0, 0.0, 0.0], 1.0),
        # Singular values 3 and 1, shares ¾ and ¼: exp of their entropy is 4 / 3^¾.
        ([9.0, 1.0], 4 / 3**0.75),
        ([0.0, 0.0], 0.0),
    ],
)
def test_effective_rank_by_hand(eigenvalues, expected):
    found = errors.effective_rank(torch.tensor(eigenvalues, dtype=torch.float64))
    assert found == pytest.approx(expected, abs=1e-6)


def test_norm_in_values_is_the_weighted_size_of_the_values():
    moments, features, weighting, head, _ = random_run()
    expected = (weighting * (features @ head).square()).sum().sqrt()
    assert errors.norm_in_values(moments, head) == pytest.approx(float(expected))
