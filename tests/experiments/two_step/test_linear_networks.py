"""One and two steps of linear networks: closed forms, simulation, the exact first step."""

import math

import pytest
import torch
from torch import Tensor

from experiments.two_step.linear_networks import (
    CLOSED_FORMS,
    LinearNetworks,
    best_first_rate,
    best_second_rate,
    best_share,
    draw_networks,
    equal_rates_win,
    haar_orthogonal,
    one_step,
    published_three_layer_one_step,
    published_two_layer_one_step,
    simulated_loss,
    three_layer_one_step,
    three_layer_two_steps,
    two_layer_one_step,
    two_layer_two_steps,
)
from neural_tdc.randomness import generator

PUBLISHED = {2: published_two_layer_one_step, 3: published_three_layer_one_step}


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def unit(layers: int, width: int) -> int:
    """The rate at which one step of the signal part alone learns the target."""
    return width**2 if layers == 2 else width


def test_the_closed_forms_at_width_one_are_computed_by_hand():
    # h = 1: the layers are signs. e₁ = 2, e₂ = 3, two layers, one step:
    # (5 − 1)² + 1 + 36 + 12 = 65, published 53. Three layers give the same at h = 1.
    rates = scalar(2.0), scalar(3.0)
    assert float(two_layer_one_step(*rates, 1)) == 65
    assert float(published_two_layer_one_step(*rates, 1)) == 53
    assert float(three_layer_one_step(*rates, 1)) == 65
    assert float(published_three_layer_one_step(*rates, 1)) == 53
    # two steps, c = 7: 7⁴ + 16·36 + (2·5·7 − 1)² + 8·49·6 = 2401 + 576 + 4761 + 2352
    assert float(two_layer_two_steps(*rates, 1)) == 10090
    # (2·5·7 − 1)² + 1 + 12 + 60 + 37·36 + 12·216 + 1296 + 36 = 4761 + 5329
    assert float(three_layer_two_steps(*rates, 1)) == 10090


@pytest.mark.parametrize("layers", [2, 3])
def test_at_rates_of_zero_the_loss_is_that_of_the_start(layers):
    zero = scalar(0.0)
    for steps in (1, 2):
        assert float(CLOSED_FORMS[layers, steps](zero, zero, 7)) == pytest.approx(1 + 1 / 7)


@pytest.mark.parametrize(("layers", "steps"), CLOSED_FORMS)
def test_the_closed_forms_do_not_tell_the_layers_apart(layers, steps):
    first, second = normal(6).abs() * unit(layers, 5), normal(6, name="second").abs()
    form = CLOSED_FORMS[layers, steps]
    exact(form(first, second, 5), form(second, first, 5), 1e-12)


@pytest.mark.parametrize(("layers", "steps"), CLOSED_FORMS)
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("rates", [(0.4, 0.3), (0.9, 0.1), (0.5, 1.4)])
def test_simulation_of_the_signal_part_agrees_with_the_closed_form(layers, steps, width, rates):
    first, second = (rate * unit(layers, width) for rate in rates)
    networks = draw_networks(layers, width, 4000, generator(0, "networks", layers, width))
    losses = simulated_loss(networks, first, second, steps, exact=False)
    expected = float(CLOSED_FORMS[layers, steps](scalar(first), scalar(second), width))
    error = float(losses.std()) / math.sqrt(len(losses))
    assert abs(float(losses.mean()) - expected) < 3 * error
    assert error < 0.05 * expected


@pytest.mark.parametrize("layers", [2, 3])
def test_simulation_tells_the_full_one_step_form_from_the_published_one(layers):
    width = 2
    first = second = 0.5 * unit(layers, width)
    networks = draw_networks(layers, width, 4000, generator(0, "networks", layers, width))
    losses = simulated_loss(networks, first, second, 1, exact=False)
    published = float(PUBLISHED[layers](scalar(first), scalar(second), width))
    error = float(losses.std()) / math.sqrt(len(losses))
    assert abs(float(losses.mean()) - published) > 5 * error


@pytest.mark.parametrize("layers", [2, 3])
def test_the_exact_gradient_leaves_the_closed_form_as_the_rates_grow(layers):
    width = 6
    networks = draw_networks(layers, width, 4000, generator(0, "networks", layers, width))
    gaps = []
    for share in (0.001, 0.3):
        rate = share * unit(layers, width)
        with_output = simulated_loss(networks, rate, rate, 2, exact=True)
        signal = simulated_loss(networks, rate, rate, 2, exact=False)
        difference = with_output - signal
        gaps.append(float(difference.mean().abs()))
    assert gaps[0] < 2e-3
    assert gaps[1] > 0.05


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_exact_simulation_is_autograd_on_samples(layers, steps):
    width, samples = 4, 4
    networks = draw_networks(layers, width, 3, generator(1, "networks"))
    inputs = math.sqrt(samples) * haar_orthogonal(1, samples, generator(1, "inputs"))[0]
    losses = simulated_loss(networks, 0.7, 1.9, steps, exact=True)
    for index in range(3):
        first, second = networks.first[index], networks.second[index]
        readout = networks.readout if layers == 2 else networks.readout[index]
        target = inputs @ networks.target[index]

        def loss(first, second, readout=readout, target=target):
            prediction = networks.scale * inputs @ first @ second @ readout
            return (prediction - target).square().sum() / (2 * samples)

        for _ in range(steps):
            gradients = torch.func.grad(loss, argnums=(0, 1))(first, second)
            first, second = first - 0.7 * gradients[0], second - 1.9 * gradients[1]
        # XᵀX = nI: the test loss is twice the training loss
        exact(losses[index], 2 * loss(first, second), 1e-12)


def test_haar_matrices_are_orthogonal_and_know_no_direction():
    drawn = haar_orthogonal(4000, 3, generator(2, "haar"))
    identity = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    exact(drawn @ drawn.mT, identity, 1e-12)
    # E Q = 0 and E Q_ij² = 1/h; without the signs of R undone Q₀₀ would always be negative
    assert float(drawn.mean(0).abs().max()) < 4 * math.sqrt(1 / 3 / 4000)
    spread = drawn.square().mean(0)
    assert float((spread - 1 / 3).abs().max()) < 4 * math.sqrt(4 / 45 / 4000)
    assert abs(float((torch.linalg.det(drawn) > 0).double().mean()) - 0.5) < 0.04


def test_networks_have_targets_of_unit_size_and_depend_on_the_seed_only():
    two = draw_networks(2, 5, 3, generator(3, "networks"))
    three = draw_networks(3, 5, 3, generator(3, "networks"))
    exact(two.target.square().sum((1, 2)), torch.ones(3, dtype=torch.float64), 1e-12)
    exact(three.target.square().sum((1, 2)), torch.ones(3, dtype=torch.float64), 1e-12)
    exact(three.readout.square().sum((1, 2)), torch.ones(3, dtype=torch.float64), 1e-12)
    assert torch.equal(two.first, draw_networks(2, 5, 3, generator(3, "networks")).first)
    with pytest.raises(ValueError, match="2 or 3 layers here, got 4"):
        draw_networks(4, 5, 3, generator(3, "networks"))


def any_start(outputs: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Inputs, target, W₁, W₂ and a of unequal sizes, nowhere orthogonal."""
    return (
        normal(9, 4, name="inputs"),
        normal(9, *outputs, name="target"),
        normal(4, 3, name="first"),
        normal(3, 5, name="second"),
        normal(5, *outputs, name="readout"),
    )


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_the_residual_after_one_exact_step_equals_autograd(outputs):
    inputs, target, first, second, readout = any_start(outputs)

    def prediction(first, second):
        return 0.6 * inputs @ first @ second @ readout

    def loss(first, second):
        return (prediction(first, second) - target).square().sum() / (2 * len(inputs))

    gradients = torch.func.grad(loss, argnums=(0, 1))(first, second)
    step = one_step(inputs, target, first, second, readout, 0.6)
    for rates in ((0.0, 0.0), (0.02, 0.0), (0.0, 0.03), (0.05, 0.01)):
        moved = prediction(first - rates[0] * gradients[0], second - rates[1] * gradients[1])
        exact(step.residual(*rates), moved - target)


@pytest.mark.parametrize("second_rate", [0.0, 0.03])
def test_the_best_first_rate_is_stationary_and_no_neighbour_is_better(second_rate):
    step = one_step(*any_start(()), 0.6)
    rate = best_first_rate(step, second_rate).requires_grad_()
    loss = step.residual(rate, second_rate).square().sum()
    (slope,) = torch.autograd.grad(loss, rate)
    assert float(slope) == pytest.approx(0, abs=1e-10)
    for neighbour in (rate * 0.9, rate * 1.1):
        assert step.residual(neighbour, second_rate).square().sum() > loss


def test_the_best_second_rate_is_stationary_too():
    step = one_step(*any_start((2,)), 0.6)
    rate = best_second_rate(step, 0.01).requires_grad_()
    (slope,) = torch.autograd.grad(step.residual(0.01, rate).square().sum(), rate)
    assert float(slope) == pytest.approx(0, abs=1e-10)


def test_a_network_at_its_optimum_has_no_best_rate():
    inputs, _, first, second, readout = any_start(())
    target = 0.6 * inputs @ first @ second @ readout
    with pytest.raises(ValueError, match="gradient vanishes"):
        best_first_rate(one_step(inputs, target, first, second, readout, 0.6), 0.1)


def test_the_simulation_s_first_step_is_the_exact_one():
    networks = draw_networks(3, 4, 2, generator(4, "networks"))
    losses = simulated_loss(networks, 1.1, 0.4, 1, exact=True)
    for index in range(2):
        step = one_step(
            2 * torch.eye(4, dtype=torch.float64),
            2 * networks.target[index],
            networks.first[index],
            networks.second[index],
            networks.readout[index],
            networks.scale,
        )
        exact(step.residual(1.1, 0.4).square().sum() / 4, losses[index], 1e-13)


@pytest.mark.parametrize("layers", [2, 3])
def test_one_step_is_best_with_one_layer_learning_alone(layers):
    totals = torch.linspace(0.05, 3, 40, dtype=torch.float64)
    for width in (2, 16, 128):
        shares = best_share(CLOSED_FORMS[layers, 1], totals * unit(layers, width), width)
        assert bool((shares == 0).all())


@pytest.mark.parametrize(
    ("layers", "width", "low", "high"), [(2, 64, 0.02, 0.15), (3, 64, 0.01, 0.235)]
)
def test_two_steps_favour_equal_rates_only_for_wide_networks_in_a_window(layers, width, low, high):
    totals = torch.linspace(0.005, 3, 600, dtype=torch.float64)
    wins = equal_rates_win(CLOSED_FORMS[layers, 2], totals * unit(layers, width), width)
    inside = totals[wins]
    assert float(inside.min()) == pytest.approx(low, abs=1e-9)
    assert float(inside.max()) == pytest.approx(high, abs=1e-9)
    assert int(wins.sum()) == round((high - low) / 0.005) + 1
    narrow = equal_rates_win(CLOSED_FORMS[layers, 2], totals * unit(layers, 4), 4)
    assert not bool(narrow.any())


def test_the_least_loss_on_a_line_of_sums_is_found_where_a_fine_search_finds_it():
    width, total = 64, 0.1 * 64
    rates = torch.linspace(0, total, 20001, dtype=torch.float64)
    losses = three_layer_two_steps(rates, total - rates, width)
    best = float(rates[losses.argmin()]) / total
    share = float(best_share(three_layer_two_steps, scalar(total)[None], width))
    assert min(best, 1 - best) == pytest.approx(share, abs=1e-3)


def test_very_wide_networks_do_not_overflow():
    rate = scalar(0.1) * 4096
    assert math.isfinite(float(two_layer_two_steps(rate, rate, 4096)))
    assert math.isfinite(float(three_layer_two_steps(rate, rate, 4096)))


def test_networks_are_a_plain_tuple_of_tensors():
    networks = draw_networks(3, 4, 2, generator(5, "networks"))
    assert isinstance(networks, LinearNetworks)
    assert networks.readout.shape == (2, 4, 1)
    assert networks.scale == 0.5
