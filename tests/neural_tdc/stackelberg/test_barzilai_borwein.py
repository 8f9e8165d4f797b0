"""The automatic learning rate."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neural_tdc.split_rates import parameter_groups
from neural_tdc.stackelberg.barzilai_borwein import (
    AutomaticRate,
    SignSGD,
    rate_factor,
)
from tests.neural_tdc.stackelberg.descent_networks import HIGH, LOW, normal


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def batch(index: int) -> tuple[Tensor, Tensor]:
    return normal(7, 5, name=f"inputs{index}"), normal(7, 2, name=f"target{index}")


def closure_for(
    module: nn.Module, optimizer: Any, index: int, calls: list[int] | None = None
) -> Callable[[], Tensor]:
    inputs, target = batch(index)

    def closure() -> Tensor:
        if calls is not None:
            calls.append(index)
        optimizer.zero_grad()
        loss = (module(inputs) - target).square().mean()
        loss.backward()
        return loss.detach()

    return closure


def groups(module: nn.Module) -> list[dict[str, Any]]:
    return parameter_groups(module, body_lr=0.01, head_lr=0.05)


def gradients(module: nn.Module, index: int) -> list[Tensor]:
    inputs, target = batch(index)
    loss = (module(inputs) - target).square().mean()
    return list(torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("kind", ["long", "short"])
def test_each_group_gets_the_rate_of_its_own_secant_pair_on_one_batch(kind):
    module = network()
    optimizer = AutomaticRate(torch.optim.SGD(groups(module)), low=LOW, high=HIGH, kind=kind)
    points = []
    for index in range(3):
        points.append([p.detach().clone() for p in module.parameters()])
        optimizer.step(closure_for(module, optimizer, index))
    # by hand, on the batch of the last step
    here, before = points[2], points[1]
    slopes = []
    for point in (here, before):
        reference = network()
        reference.load_state_dict(dict(zip(dict(module.named_parameters()), point)))
        slopes.append(gradients(reference, 2))
    rates = optimizer.rates()
    for label, chosen in (("body", slice(0, 2)), ("head", slice(2, 4))):
        s = torch.cat([(a - b).flatten() for a, b in zip(here[chosen], before[chosen])])
        y = torch.cat([(a - b).flatten() for a, b in zip(slopes[0][chosen], slopes[1][chosen])])
        expected = s @ s / (s @ y).abs() if kind == "long" else (s @ y).abs() / (y @ y)
        assert LOW < float(expected) < HIGH
        assert rates[label] == pytest.approx(float(expected), rel=1e-10)
        norm = torch.cat([a.flatten() for a in slopes[0][chosen]]).norm()
        assert optimizer.gradient_norms()[label] == pytest.approx(float(norm), rel=1e-12)
    # and the step itself is plain descent at those rates from the present point
    for position, (start, slope, parameter) in enumerate(zip(here, slopes[0], module.parameters())):
        rate = rates["body" if position < 2 else "head"]
        torch.testing.assert_close(parameter, start - rate * slope, rtol=0, atol=1e-12)


def test_the_first_step_uses_the_base_rates_and_one_gradient_only():
    module, calls = network(), []
    optimizer = AutomaticRate(torch.optim.SGD(groups(module)), low=LOW, high=HIGH)
    start = [p.detach().clone() for p in module.parameters()]
    slope = gradients(module, 0)
    assert optimizer.gradient_norms() == {}
    loss = optimizer.step(closure_for(module, optimizer, 0, calls))
    assert calls == [0]
    for position, parameter in enumerate(module.parameters()):
        rate = 0.01 if position < 2 else 0.05
        expected = start[position] - rate * slope[position]
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-15)
    inputs, target = batch(0)
    reference = network()
    expected_loss = (reference(inputs) - target).square().mean()
    assert float(loss) == pytest.approx(float(expected_loss.detach()))
    optimizer.step(closure_for(module, optimizer, 1, calls))
    assert calls == [0, 1, 1]


def quadratic(make: Callable[[list[Tensor]], Any], steps: int) -> tuple[list[float], Any]:
    """Descend ½ Σ hᵢxᵢ² and return the distances from the minimum."""
    curvature = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    point = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = make([point])
    distances = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (curvature * point.square()).sum() / 2
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        distances.append(float(point.detach().norm()))
    return distances, optimizer


@pytest.mark.parametrize("kind", ["long", "short"])
def test_a_quadratic_is_solved_far_faster_than_by_the_base_rate(kind):
    def automatic_descent(points: list[Tensor]) -> AutomaticRate:
        return AutomaticRate(torch.optim.SGD(points, lr=0.01), low=LOW, high=HIGH, kind=kind)

    fixed, _ = quadratic(lambda points: torch.optim.SGD(points, lr=0.01), 30)
    automatic, optimizer = quadratic(automatic_descent, 30)
    assert automatic[-1] < 1e-9
    assert fixed[-1] > 0.3
    # a Barzilai-Borwein step of a quadratic is an inverse Rayleigh quotient
    assert 1 / 4 <= optimizer.rates()["0"] <= 1


def test_momentum_shortens_the_rate_by_how_much_it_lengthens_the_step():
    module = network()
    plain = torch.optim.SGD(module.parameters(), lr=0.1)
    assert rate_factor(plain, plain.param_groups[0]) == 1
    heavy = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    assert rate_factor(heavy, heavy.param_groups[0]) == pytest.approx(0.1)
    damped = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    assert rate_factor(damped, damped.param_groups[0]) == pytest.approx(0.2)
    dead = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, dampening=1.0)
    with pytest.raises(ValueError, match="dampening must be below 1"):
        rate_factor(dead, dead.param_groups[0])


def test_momentum_with_the_automatic_rate_solves_a_quadratic():
    _, optimizer = quadratic(
        lambda points: AutomaticRate(
            torch.optim.SGD(points, lr=0.01, momentum=0.5), low=LOW, high=HIGH
        ),
        2,
    )
    # s·y/‖s‖² lies between the curvatures 1 and 4
    assert 0.5 / 4 <= optimizer.rates()["0"] <= 0.5
    distances, _ = quadratic(
        lambda points: AutomaticRate(
            torch.optim.SGD(points, lr=0.01, momentum=0.5), low=LOW, high=HIGH
        ),
        60,
    )
    assert distances[-1] < 1e-3


def test_sign_descent_moves_every_component_by_its_rate():
    point = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = SignSGD([point], lr=0.25)
    point.square().sum().backward()
    optimizer.step()
    assert point.tolist() == [0.75, -1.75, 0.0]
    with pytest.raises(ValueError, match="lr must not be negative"):
        SignSGD([point], lr=-1.0)


def test_the_sign_rate_minimises_the_quadratic_model_along_the_sign():
    # one curvature 4: the model is exact, so η = ‖g‖₁/(4·3)
    point = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = AutomaticRate(SignSGD([point], lr=0.01), low=LOW, high=HIGH)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 2 * point.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    start = point.detach().clone()
    optimizer.step(closure)
    rate = (4 * start).abs().sum() / (4 * 3)
    assert optimizer.rates()["0"] == pytest.approx(float(rate), rel=1e-12)
    torch.testing.assert_close(point.detach(), start - rate * start.sign(), rtol=0, atol=1e-12)
    lengths = torch.linspace(0, 3, 301, dtype=torch.float64)
    along = 2 * (start - lengths[:, None] * start.sign()).square().sum(-1)
    assert float(lengths[along.argmin()]) == pytest.approx(float(rate), abs=0.01)


def test_sign_descent_stands_still_at_a_minimum_and_stays_finite():
    point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = AutomaticRate(SignSGD([point], lr=0.01), low=LOW, high=HIGH)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = point.square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert point.tolist() == [0.0, 0.0, 0.0]
    assert math.isfinite(optimizer.rates()["0"])


MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda given: torch.optim.SGD(given, momentum=0.9, nesterov=True),
    "sign": SignSGD,
}


@pytest.mark.parametrize("name", MAKERS)
def test_training_goes_on_from_a_saved_state_to_the_bit(name, tmp_path):
    module = network()
    optimizer = AutomaticRate(MAKERS[name](groups(module)), low=LOW, high=1.0)
    for index in range(3):
        optimizer.step(closure_for(module, optimizer, index))
    torch.save(
        {"module": module.state_dict(), "rate": optimizer.state_dict()}, tmp_path / "checkpoint.pt"
    )
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed = network()
    resumed.load_state_dict(state["module"])
    going_on = AutomaticRate(MAKERS[name](groups(resumed)), low=LOW, high=1.0)
    going_on.load_state_dict(state["rate"])
    for index in range(3, 6):
        optimizer.step(closure_for(module, optimizer, index))
        going_on.step(closure_for(resumed, going_on, index))
    assert going_on.rates() == optimizer.rates()
    for ours, theirs in zip(resumed.parameters(), module.parameters()):
        assert torch.equal(ours, theirs)


def test_a_state_of_another_network_is_refused():
    module, other = network(), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    optimizer = AutomaticRate(torch.optim.SGD(groups(module)), low=LOW, high=HIGH)
    optimizer.step(closure_for(module, optimizer, 0))
    wrong = AutomaticRate(torch.optim.SGD(groups(other)), low=LOW, high=HIGH)
    with pytest.raises(ValueError, match="groups of other sizes"):
        wrong.load_state_dict(optimizer.state_dict())


def test_every_kind_of_descent_lowers_the_loss_of_a_small_network():
    for make in MAKERS.values():
        module = network()
        optimizer = AutomaticRate(make(groups(module)), low=1e-4, high=0.5)
        losses = [float(optimizer.step(closure_for(module, optimizer, 0))) for _ in range(60)]
        assert min(losses[-5:]) < 0.7 * losses[0]


def test_two_groups_of_one_label_are_both_reported():
    module = network()
    body, head = groups(module)
    optimizer = torch.optim.SGD([{**body, "params": [p], "label": "body"} for p in body["params"]])
    optimizer.add_param_group(head)
    rates = AutomaticRate(optimizer, low=LOW, high=HIGH).rates()
    assert list(rates) == ["body 0", "body 1", "head"]


def test_another_optimizer_an_illegal_range_or_kind_is_refused():
    module = network()
    with pytest.raises(ValueError, match=r"for torch\.optim\.SGD.*not for Adam"):
        AutomaticRate(torch.optim.Adam(groups(module)), low=LOW, high=HIGH)
    sgd = torch.optim.SGD(groups(module))
    for low, high in ((0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.1, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="range of rates"):
            AutomaticRate(sgd, low=low, high=high)
