"""Descent on two time scales: unbiased samples, exact errors, the update itself."""

import functools

import pytest
import torch
from torch import Tensor

from experiments.convergence.instances import (
    chain_descent,
    chain_problem,
    regression_descent,
    scalar_descent,
    small_chain,
    small_observation,
    with_constant,
)
from experiments.convergence.stochastic_approximation import Instance, descend, errors, images
from neural_tdc.randomness import generator
from neural_tdc.rules.registry import RULES
from neural_tdc.stackelberg.problems import reduced_gradient
from neural_tdc.types import Parameters, StepSizes, Transition

MAKERS = {"scalar": scalar_descent, "regression": regression_descent, "chain": chain_descent}


@functools.cache
def made(name: str) -> Instance:
    return MAKERS[name]()


@pytest.fixture(params=MAKERS)
def instance(request) -> Instance:
    return made(request.param)


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def exact(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def expected_directions(name: str, instance: Instance, parameters: Parameters) -> Parameters:
    """The mean over all samples, weighted by their probabilities."""
    if name == "scalar":
        # Labels 0 and 2 have the mean 1 of the instance, in which the directions are linear.
        samples, weights = torch.tensor([[0.0], [2.0]], dtype=torch.float64), torch.ones(2) / 2
    elif name == "regression":
        samples, weights = torch.arange(20), torch.ones(20).double() / 20
    else:
        chain = small_chain()
        samples = torch.arange(36)
        weights = (chain.weighting[:, None] * chain.transition).reshape(-1)
    many = Parameters(*(part.expand(1, len(samples), *part.shape) for part in parameters))
    found = instance.directions(many, samples)
    return Parameters(
        *(torch.tensordot(weights.double(), part[0], 1) if part.numel() else part for part in found)
    )


def at(instance: Instance) -> Parameters:
    body, head, auxiliary = instance.start
    return Parameters(
        0.6 + 0.5 * normal(*body.shape, name="body"),
        normal(*head.shape, name="head"),
        0.3 * normal(*auxiliary.shape, name="auxiliary"),
    )


@pytest.mark.parametrize("name", ["scalar", "regression"])
def test_a_sample_s_directions_are_unbiased_gradients(name):
    instance = made(name)
    parameters = at(instance)
    found = expected_directions(name, instance, parameters)
    gradients = torch.func.grad(instance.problem.objective, argnums=(0, 1))(*parameters[:2])
    exact(found.body, gradients[0])
    exact(found.head, gradients[1])


def test_algorithm_1_is_unbiased_where_the_auxiliary_is_at_its_solution():
    instance = chain_descent(epsilon=0.07, ridge=0.3, decay=0.2)
    parameters = at(instance)
    features = torch.tanh(small_observation() @ parameters.body)
    moments = small_chain().moments(torch.cat([torch.ones(6, 1), features], 1))
    regularised = moments.C + 0.07 * torch.eye(3, dtype=torch.float64)
    omega = torch.linalg.solve(regularised, moments.b0 - moments.A @ parameters.head)
    found = expected_directions("chain", instance, parameters._replace(auxiliary=omega))
    gradients = torch.func.grad(instance.problem.objective, argnums=(0, 1))(*parameters[:2])
    exact(found.body, gradients[0])
    exact(found.head, gradients[1])
    exact(found.auxiliary, torch.zeros(3, dtype=torch.float64))


def test_the_chain_s_directions_are_those_of_the_library_s_algorithm_1():
    chain, observation = small_chain(), small_observation()
    instance = chain_descent(chain, ridge=0.3, decay=0.2, epsilon=0.07)
    parameters, state, following = at(instance), 4, 1
    many = Parameters(*(part[None, None] for part in parameters))
    found = instance.directions(many, torch.tensor([state * 6 + following]))
    batch = Transition(
        observation=observation[state][None],
        reward=chain.reward[state][None],
        discount=torch.tensor([chain.discount], dtype=torch.float64),
        next_observation=observation[following][None],
        ratio=torch.ones(1, dtype=torch.float64),
    )
    rule = RULES["tdc"].with_settings(ridge=0.3, epsilon=0.07)
    expected = rule.directions(
        lambda body, rows: with_constant(torch.tanh(rows @ body["weight"])),
        Parameters({"weight": parameters.body}, parameters.head, {"tdc": parameters.auxiliary}),
        batch,
    )
    exact(found.body[0, 0], expected.body["weight"] + 0.2 * parameters.body)
    exact(found.head[0, 0], expected.head)
    exact(found.auxiliary[0, 0], expected.auxiliary["tdc"])


def test_without_a_ridge_the_reduced_objective_of_a_chain_is_zero_and_with_one_it_is_not():
    bodies = normal(5, 3, 2, name="bodies")
    for ridge, largest in ((0.0, 1e-20), (0.1, None)):
        problem = chain_problem(small_chain(), small_observation(), ridge, 0.0)
        values = torch.stack([reduced_gradient(problem, body)[1] for body in bodies])
        slopes = torch.stack([reduced_gradient(problem, body)[0] for body in bodies])
        if largest is not None:
            assert float(values.max()) < largest
            assert float(slopes.abs().max()) < 1e-10
        else:
            assert float(values.min()) > 1e-3
            assert float(slopes.abs().max()) > 1e-3


def test_the_minimiser_is_a_strict_local_minimum_inside_the_constraint_set(instance):
    flat = instance.minimiser.reshape(-1)
    low, high = instance.bounds[0]
    assert bool(((flat > low) & (flat < high)).all())
    exact(torch.func.grad(instance.reduced)(flat), torch.zeros_like(flat), 1e-9)
    assert float(torch.linalg.eigvalsh(torch.func.hessian(instance.reduced)(flat))[0]) > 0.01


def test_all_errors_are_zero_at_the_minimum_and_as_computed_by_hand_beside_it(instance):
    body, head = instance.minimiser, instance.problem.best_response(instance.minimiser)
    found = errors(instance, body[None], head[None], 0.1)
    for values in found:
        exact(values, torch.zeros_like(values), 1e-12)
    moved = body + 0.01
    answer = instance.problem.best_response(moved)
    found = errors(instance, moved[None], answer[None] + 0.2, 0.1)
    exact(found.body, torch.tensor([body.numel() * 1e-4], dtype=torch.float64))
    exact(found.head, torch.tensor([head.numel() * 0.04], dtype=torch.float64))
    # Near W*: ∇Φ_τ = (I + τH)⁻¹H(W − W*), to first order.
    hessian = torch.func.hessian(instance.reduced)(body.reshape(-1))
    identity = torch.eye(body.numel(), dtype=torch.float64)
    slope = torch.linalg.solve(
        identity + 0.1 * hessian, hessian @ torch.full_like(hessian[0], 0.01)
    )
    assert float(found.moreau) == pytest.approx(float(slope.square().sum()), rel=0.1)


@pytest.mark.parametrize("name", ["regression", "chain"])
def test_the_reduced_objective_cannot_tell_the_images_of_a_body_apart(name):
    instance = made(name)
    body = normal(3, 2, name="body")
    values = torch.stack([instance.reduced(image) for image in images(body)])
    # two signs of each of two units, in two orders
    assert len(values) == 8
    exact(values, values[:1].expand(8))
    assert len({tuple(image.flatten().tolist()) for image in images(body)}) == 8
    moved = images(body)[5] + 0.1
    found = errors(instance._replace(minimiser=body), moved[None], instance.start.head[None], 0.01)
    exact(found.body, torch.tensor([0.06], dtype=torch.float64))


def test_an_update_subtracts_step_times_direction_and_projects():
    instance = made("scalar")
    body = torch.tensor([[[2.0], [0.2]], [[2.0], [0.2]]], dtype=torch.float64)
    head = torch.tensor([[[0.5], [9.0]], [[0.5], [9.0]]], dtype=torch.float64)
    sizes = torch.tensor([[0.1, 1.0]], dtype=torch.float64)
    samples = torch.tensor([[[1.0], [-2.0]]], dtype=torch.float64)
    found = descend(
        instance,
        Parameters(body, head, head.new_empty(2, 2, 0)),
        StepSizes(sizes, 2 * sizes, sizes),
        samples,
    )
    # W = 2, θ = .5, y = 1: e = 0, g_W = .1·2, g_θ = .1·.5. W = .2, θ = 9, y = −2: e = 3.8,
    # g_W = 3.8·9 + .02 = 34.22, g_θ = 3.8·.2 + .9 = 1.66
    low = (0.1 / 3) ** 0.5
    exact(found.body[0, :, 0], torch.tensor([2 - 0.02, low], dtype=torch.float64))
    exact(found.body[1, :, 0], torch.tensor([2 - 0.2, low], dtype=torch.float64))
    exact(found.head[0, :, 0], torch.tensor([0.5 - 0.01, 9 - 0.332], dtype=torch.float64))
    exact(found.head[1, :, 0], torch.tensor([0.5 - 0.1, 9 - 3.32], dtype=torch.float64))


def test_schedules_and_runs_do_not_touch_one_another(instance):
    sources = [generator(3, run) for run in range(3)]
    samples = torch.stack([instance.draw(source, 7) for source in sources], 1)
    steps = torch.linspace(0.1, 0.02, 14, dtype=torch.float64).reshape(7, 2)
    together = descend(
        instance,
        Parameters(*(part.expand(2, 3, *part.shape) for part in instance.start)),
        StepSizes(steps, 2 * steps, 3 * steps),
        samples,
    )
    alone = descend(
        instance,
        Parameters(*(part.expand(1, 1, *part.shape) for part in instance.start)),
        StepSizes(steps[:, 1:], 2 * steps[:, 1:], 3 * steps[:, 1:]),
        samples[:, 2:],
    )
    for many, one in zip(together, alone):
        exact(many[1, 2], one[0, 0], 1e-14)


def test_a_proximal_point_outside_the_constraint_set_is_refused():
    instance = made("regression")
    narrow = instance._replace(bounds=((-1e-3, 1e-3), (-10.0, 10.0)))
    with pytest.raises(ValueError, match="leaves the constraint set"):
        errors(narrow, instance.minimiser[None], instance.start.head[None], 0.1)
