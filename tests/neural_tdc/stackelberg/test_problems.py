"""The reduced objective Φ(W) = min_θ f(W, θ)."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neural_tdc.metrics.value_errors import Moments
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.best_responses import logistic_response, ridge_response
from neural_tdc.stackelberg.problems import (
    StackelbergProblem,
    classification,
    logistic_loss,
    policy_evaluation,
    reduced_gradient,
    reduced_mspbe,
    reduced_objective,
    reduced_regression,
    regression,
    softmax_loss,
    squared_loss,
)

SAMPLES, INPUTS, FEATURES, CLASSES, RIDGE = 9, 5, 4, 3, 0.07


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def labels() -> Tensor:
    return (torch.arange(SAMPLES) % 2).double()


def classes() -> Tensor:
    return torch.arange(SAMPLES) % CLASSES


def deep_features(body: dict[str, Tensor], observation: Tensor) -> Tensor:
    hidden = torch.tanh(observation @ body["first"] + body["bias"])
    return torch.tanh(hidden @ body["second"])


def deep_body() -> dict[str, Tensor]:
    return {
        "first": normal(INPUTS, 6),
        "bias": normal(6, name="bias"),
        "second": normal(6, FEATURES, name="second"),
    }


def chain_moments(body: dict[str, Tensor]) -> Moments:
    """A, b₀ and C of a seven-state chain, with the body's features of random observations."""
    transition = torch.softmax(2 * normal(7, 7, name="transition"), -1)
    weighting = torch.linalg.matrix_power(transition, 500)[0]
    features = deep_features(body, normal(7, INPUTS, name="states"))
    weighted = features.T * weighting
    difference = features - 0.9 * transition @ features
    reward = normal(7, name="reward")
    return Moments(A=weighted @ difference, b0=weighted @ reward, C=weighted @ features)


def problems() -> dict[str, StackelbergProblem]:
    inputs = normal(SAMPLES, INPUTS)
    return {
        "regression": regression(deep_features, inputs, normal(SAMPLES, name="target"), RIDGE),
        "matrix": regression(deep_features, inputs, normal(SAMPLES, 2, name="target"), RIDGE),
        "few-samples": regression(
            deep_features, inputs[:3], normal(SAMPLES, name="target")[:3], RIDGE
        ),
        "logistic": classification(deep_features, inputs, labels(), RIDGE),
        "softmax": classification(deep_features, inputs, classes(), RIDGE, classes=CLASSES),
        "chain": policy_evaluation(chain_moments, RIDGE),
    }


def test_the_losses_of_one_sample_are_computed_by_hand():
    feature = torch.tensor([[1.0, 2.0]])
    head = torch.tensor([0.5, -1.0])
    # prediction −1.5, ‖θ‖² = 1.25
    expected = (-1.5 - 1) ** 2 / 2 + 0.1 / 2 * 1.25
    assert float(squared_loss(feature, torch.tensor([1.0]), head, 0.1)) == pytest.approx(expected)
    expected = -math.log(1 / (1 + math.exp(1.5))) + 0.1 / 2 * 1.25
    assert float(logistic_loss(feature, torch.tensor([1.0]), head, 0.1)) == pytest.approx(expected)
    heads = torch.tensor([[0.5, 0.0], [-1.0, 0.0]])
    expected = math.log(math.exp(-1.5) + 1) + 0.1 / 2 * 1.25
    assert float(softmax_loss(feature, torch.tensor([1]), heads, 0.1)) == pytest.approx(expected)


@pytest.mark.parametrize("name", problems())
def test_the_danskin_gradient_equals_finite_differences_of_the_reduced_objective(name):
    problem, body = problems()[name], deep_body()
    gradient, value = reduced_gradient(problem, body)
    exact(value, reduced_objective(problem, body))
    for index in range(5):
        direction = {key: normal(*leaf.shape, name=f"{key}{index}") for key, leaf in body.items()}
        length = sum(float(leaf.square().sum()) for leaf in direction.values()) ** 0.5
        direction = {key: leaf / length for key, leaf in direction.items()}
        slope = sum(float((gradient[key] * direction[key]).sum()) for key in body)

        def along(length: float, direction: dict[str, Tensor] = direction) -> float:
            moved = {key: body[key] + length * direction[key] for key in body}
            return float(reduced_objective(problem, moved))

        # a fourth-order difference: truncation and rounding both stay below 1e-10
        step = 1e-3
        central = (
            8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))
        ) / (12 * step)  # fmt: skip
        assert slope == pytest.approx(central, abs=1e-10)
        assert abs(slope) > 1e-5


@pytest.mark.parametrize("name", ["regression", "matrix", "few-samples", "chain"])
def test_the_danskin_gradient_equals_autograd_through_a_closed_form_response(name):
    problem, body = problems()[name], deep_body()
    gradient, _ = reduced_gradient(problem, body)
    through = torch.func.grad(lambda moved: reduced_objective(problem, moved))(body)
    for key in body:
        exact(gradient[key], through[key])


@pytest.mark.parametrize("name", problems())
def test_no_head_does_better_than_the_reduced_objective(name):
    problem, body = problems()[name], deep_body()
    head = problem.best_response(body)
    reduced = reduced_objective(problem, body)
    for index in range(10):
        other = head + 1e-2 * normal(*head.shape, name=f"other{index}")
        assert problem.objective(body, other) > reduced


@pytest.mark.parametrize("samples", [9, 4, 3])
@pytest.mark.parametrize("outputs", [(), (2,)])
def test_the_woodbury_form_equals_the_loss_at_the_best_response(samples, outputs):
    features, target = normal(samples, 4), normal(samples, *outputs, name="target")
    head = ridge_response(features, target, RIDGE)
    exact(reduced_regression(features, target, RIDGE), squared_loss(features, target, head, RIDGE))
    inverse = torch.linalg.inv(
        torch.eye(samples, dtype=torch.float64) + features @ features.T / (samples * RIDGE)
    )
    columns = target.reshape(samples, -1)
    exact(
        reduced_regression(features, target, RIDGE),
        torch.trace(columns.T @ inverse @ columns) / (2 * samples),
    )


def test_the_reduced_mspbe_of_a_chain_is_its_closed_form_with_a_ridge_and_zero_without():
    moments = chain_moments(deep_body())
    reduced = reduced_objective(policy_evaluation(chain_moments, RIDGE), deep_body())
    exact(reduced, reduced_mspbe(moments.A, moments.C, moments.b0, RIDGE))
    assert float(reduced) > 1e-3
    gradient, value = reduced_gradient(policy_evaluation(chain_moments, 0.0), deep_body())
    assert float(value) < 1e-20
    assert all(float(leaf.abs().max()) < 1e-10 for leaf in gradient.values())


def test_the_woodbury_form_wants_a_ridge():
    with pytest.raises(ValueError, match="must be above 0"):
        reduced_regression(normal(5, 2), normal(5, name="target"), 0.0)


@pytest.mark.parametrize("ridge", [-0.1, math.nan, math.inf])
def test_a_problem_with_an_illegal_ridge_is_refused_when_it_is_made(ridge):
    inputs = normal(SAMPLES, INPUTS)
    with pytest.raises(ValueError, match="ridge"):
        regression(deep_features, inputs, normal(SAMPLES, name="target"), ridge)
    with pytest.raises(ValueError, match="ridge"):
        classification(deep_features, inputs, labels(), ridge)
    with pytest.raises(ValueError, match="ridge"):
        policy_evaluation(chain_moments, ridge)


def test_with_relu_the_reduced_objective_has_a_concave_kink():
    # X = I₂, one unit with weights (w₁, 1), loss ½‖·‖² + (λ/2)θ²: slope 0 on the left of w₁ = 0 and
    # −y₁y₂/(λ+1) on the right. The loss (8) with n = 2 is half of that with λ twice as large.
    inputs = torch.eye(2, dtype=torch.float64)
    target = torch.tensor([1.0, 1.0], dtype=torch.float64)
    ridge = 0.3
    problem = regression(
        lambda body, observation: torch.relu(observation @ body), inputs, target, ridge / 2
    )

    def slope(first: float) -> float:
        gradient, _ = reduced_gradient(problem, torch.tensor([[first], [1.0]], dtype=torch.float64))
        return 2 * float(gradient[0])

    def value(first: float) -> float:
        weight = torch.tensor([[first], [1.0]], dtype=torch.float64)
        return 2 * float(reduced_objective(problem, weight))

    assert slope(-1e-12) == 0
    assert slope(1e-12) == pytest.approx(-1 / (ridge + 1), abs=1e-10)
    step = 1e-6
    assert (value(0) - value(-step)) / step == pytest.approx(0, abs=1e-9)
    assert (value(step) - value(0)) / step == pytest.approx(-1 / (ridge + 1), abs=1e-5)
    # with y₁y₂ < 0 the kink is convex: the slope jumps up
    opposite = regression(
        lambda body, observation: torch.relu(observation @ body),
        inputs, target * torch.tensor([1.0, -1.0]), ridge / 2,
    )  # fmt: skip
    gradient, _ = reduced_gradient(opposite, torch.tensor([[1e-12], [1.0]], dtype=torch.float64))
    assert 2 * float(gradient[0]) == pytest.approx(1 / (ridge + 1), abs=1e-10)


def test_the_slope_at_the_kink_of_the_averaged_loss_is_the_published_one():
    # (8) itself: −y₁y₂/(2(2λ+1))
    problem = regression(
        lambda body, observation: torch.relu(observation @ body),
        torch.eye(2, dtype=torch.float64),
        torch.tensor([1.5, 0.8], dtype=torch.float64),
        0.3,
    )
    gradient, _ = reduced_gradient(problem, torch.tensor([[1e-12], [1.0]], dtype=torch.float64))
    assert float(gradient[0]) == pytest.approx(-1.5 * 0.8 / (2 * (2 * 0.3 + 1)), abs=1e-10)


def test_the_logistic_objective_at_its_response_is_the_reduced_one():
    inputs = normal(SAMPLES, INPUTS)
    problem = classification(deep_features, inputs, labels(), RIDGE)
    features = deep_features(deep_body(), inputs)
    head = logistic_response(features, labels(), RIDGE).head
    exact(reduced_objective(problem, deep_body()), logistic_loss(features, labels(), head, RIDGE))


def test_the_example_of_the_page_runs_and_its_hessian_is_that_of_its_gradient():
    page = (Path(__file__).parents[3] / "docs" / "stackelberg.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "stackelberg.md", "exec"), names)
    step = torch.zeros(3, 2, dtype=torch.float64)
    step[1, 0] = 1e-5
    above, below = (
        reduced_gradient(names["problem"], names["body"] + sign * step)[0] for sign in (1, -1)
    )
    exact(names["hessian"][2], ((above - below) / 2e-5).reshape(-1), 1e-6)
    assert float(names["gradient"].abs().max()) > 1e-3
