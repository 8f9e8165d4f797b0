"""Errors against a truth at few states, whose values are estimates, are right on average."""

import pytest
import torch

from neural_tdc.metrics.sampled_truth import best_linear_squares, states_error
from neural_tdc.metrics.value_errors import best_linear

F64 = torch.float64


def uniform(states):
    return torch.full((states,), 1 / states, dtype=F64)


def test_squares_of_the_best_line_through_the_origin_by_hand():
    """Features 1, 1, 2 and values 1, 3, 1: the head is 6/6 = 1, the leverages 1/6, 1/6 and 4/6."""
    features = torch.tensor([[1.0], [1.0], [2.0]], dtype=F64)
    value = torch.tensor([1.0, 3.0, 1.0], dtype=F64)
    found = best_linear_squares(features, uniform(3), value)
    assert found.tolist() == pytest.approx([0, 4 * 6 / 5, 1 * 6 / 2])


def test_as_many_features_as_states_leave_no_error_to_estimate():
    features = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    value = torch.tensor([1.0, 3.0, 1.0], dtype=F64)
    assert best_linear_squares(features, uniform(3), value).tolist() == [0.0, 0.0, 0.0]


def test_the_error_of_the_best_head_is_right_on_average_where_the_fit_is_to_noise():
    """2,000 states, of which 60 are drawn; unequal noise; 10 features that miss some."""
    source = torch.Generator().manual_seed(1)
    population, states, d, samples = 2_000, 60, 10, 1_500
    features = torch.randn(population, d, generator=source, dtype=F64)
    value = features.sum(1) + features[:, 1].square() * features[:, 2] / 2
    head = best_linear(features, uniform(population), value)
    truth = float((features @ head - value).square().mean())
    deviation = 2 * torch.rand(population, generator=source, dtype=F64)
    drawn = torch.randint(population, (samples, states), generator=source)
    noise = torch.randn(samples, states, generator=source, dtype=F64) * deviation[drawn]

    def of(phi, seen, variance):
        w = uniform(states)
        fitted = (seen - phi @ best_linear(phi, w, seen)).square()
        both = torch.stack([fitted, best_linear_squares(phi, w, seen)])
        return both @ w - w @ variance

    inside, found = torch.vmap(of)(
        features[drawn], value[drawn] + noise, deviation[drawn].square()
    ).T
    error = float(found.std()) / samples**0.5
    assert abs(float(found.mean()) - truth) < 3 * error
    # The fit takes up noise of which all was subtracted.
    assert float(inside.mean()) < 0.75 * truth


def test_the_standard_error_over_states_is_the_deviation_over_draws_of_them():
    source = torch.Generator().manual_seed(2)
    squares = torch.randn(4_000, 150, generator=source, dtype=F64).square() + 0.5
    found = torch.vmap(lambda each: states_error(each, uniform(150), 0.5))(squares)
    roots = (squares.mean(1) - 0.5).sqrt()
    assert float(found.mean()) == pytest.approx(float(roots.std()), rel=0.06)


def test_below_the_noise_it_is_finite():
    squares = torch.tensor([0.0, 2.0, 4.0], dtype=F64)
    # s² = Σ(z − 2)²/9 · 3/2 = 4/3.
    found = states_error(squares, uniform(3), 5.0)
    assert float(found) == pytest.approx((4 / 3) ** 0.25)
