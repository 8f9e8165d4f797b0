"""Every row of the tables against autograd, and whole rules against written-out references."""

import math

import pytest
import torch

from neural_tdc.rules.registry import HEAD_ROWS, RULES
from tests.neural_tdc.rules.rule_problem import (
    BATCH,
    FEATURE,
    HIDDEN,
    STATE,
    flat,
    problem,
    quantities,
    relative_error,
)

BODIES = {"one layer": (), "three layers": (HIDDEN, 6)}


def saddle(features, batch, omega, epsilon=0.0):
    """Return the batch's saddle form of ½J as a function of (body, head) at a fixed ω."""

    def value(body, head):
        phi = features(body, batch.observation)
        phi_next = features(body, batch.next_observation)
        delta = batch.reward + batch.discount * (phi_next @ head) - phi @ head
        inner = phi @ omega
        penalty = 0.5 * epsilon * omega @ omega
        return (batch.ratio * delta * inner - 0.5 * inner**2).mean() - penalty

    return value


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("hidden", BODIES.values(), ids=BODIES.keys())
def test_body_direction_equals_autograd_of_the_saddle_form(hidden, on_policy):
    features, parameters, batch = problem(hidden, on_policy)
    directions = RULES["tdc"].directions(features, parameters, batch)
    objective = saddle(features, batch, parameters.auxiliary["tdc"])
    expected = torch.func.grad(objective)(parameters.body, parameters.head)
    assert relative_error(flat(directions.body), flat(expected)) < 1e-10


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("hidden", BODIES.values(), ids=BODIES.keys())
def test_gtd2_head_direction_equals_autograd_of_the_saddle_form(hidden, on_policy):
    features, parameters, batch = problem(hidden, on_policy)
    directions = RULES["gtd2"].directions(features, parameters, batch)
    objective = saddle(features, batch, parameters.auxiliary["tdc"])
    expected = torch.func.grad(objective, argnums=1)(parameters.body, parameters.head)
    assert relative_error(directions.head, expected) < 1e-10


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("hidden", BODIES.values(), ids=BODIES.keys())
def test_body_direction_equals_finite_differences(hidden, on_policy):
    features, parameters, batch = problem(hidden, on_policy)
    directions = RULES["tdc"].directions(features, parameters, batch)
    objective = saddle(features, batch, parameters.auxiliary["tdc"])
    width = 1e-5
    for name, tensor in parameters.body.items():
        numerical = torch.empty_like(tensor)
        for index in range(tensor.numel()):
            bump = torch.zeros(tensor.numel(), dtype=torch.float64)
            bump[index] = width
            bump = bump.view_as(tensor)
            above = objective({**parameters.body, name: tensor + bump}, parameters.head)
            below = objective({**parameters.body, name: tensor - bump}, parameters.head)
            numerical.view(-1)[index] = (above - below) / (2 * width)
        assert relative_error(directions.body[name], numerical) < 1e-6


def test_epsilon_keeps_the_gtd2_form_and_the_auxiliary_a_gradient():
    epsilon = 0.3
    features, parameters, batch = problem()
    directions = (
        RULES["gtd2"].with_settings(epsilon=epsilon).directions(features, parameters, batch)
    )

    def objective(omega):
        return saddle(features, batch, omega, epsilon)(parameters.body, parameters.head)

    ascent = torch.func.grad(objective)(parameters.auxiliary["tdc"])
    # The auxiliary vector ascends, and `directions` holds what is subtracted.
    assert relative_error(directions.auxiliary["tdc"], -ascent) < 1e-10


def test_head_in_tdc_form_is_a_gradient_at_omega_star_with_epsilon():
    epsilon = 0.3
    features, parameters, batch = problem()
    phi, _, delta = quantities(features, parameters, batch)
    covariance = phi.T @ phi / BATCH
    moment = (batch.ratio * delta) @ phi / BATCH
    identity = torch.eye(FEATURE, dtype=torch.float64)
    omega = torch.linalg.solve(covariance + epsilon * identity, moment)
    parameters = parameters._replace(auxiliary={"tdc": omega})
    tdc, gtd2 = (
        RULES[name].with_settings(epsilon=epsilon).directions(features, parameters, batch)
        for name in ("tdc", "gtd2")
    )
    # The two forms of the gradient agree only at ω*, and only if E[ρφφᵀ] were C: on this batch the
    # TDC form with the ratio differs from it by (E[ρφφᵀ] − C)ω, which is added back here.
    ratio_covariance = (batch.ratio * phi.T) @ phi / BATCH
    assert relative_error(tdc.head, gtd2.head + (ratio_covariance - covariance) @ omega) < 1e-10


def entries(name, phi, phi_next, delta, batch, omega, kappa=1.0):
    """Return what the head's table adds to (θ, auxiliary) for each sample, written out again."""
    rho, gamma = batch.ratio[:, None], batch.discount[:, None]
    delta = delta[:, None]
    inner = (phi @ omega)[:, None]
    clipped = rho.clamp(max=1)
    covariance = (rho * delta - inner) * phi
    return {
        "td": (rho * delta * phi, None),
        "vtrace": (clipped * delta * phi, None),
        "residual": (rho * delta * (phi - gamma * phi_next), None),
        "gtd2": (rho * (phi - gamma * phi_next) * inner, covariance),
        "tdc": (rho * (delta * phi - gamma * phi_next * inner), covariance),
        "tdrc": (
            rho * (delta * phi - gamma * phi_next * inner),
            covariance - kappa * omega,
        ),
        "htd": (
            rho * delta * phi + (rho - 1) * (phi - gamma * phi_next) * inner,
            rho * delta * phi - (phi - gamma * phi_next) * inner,
        ),
    }[name]


@pytest.mark.parametrize("name", ["td", "vtrace", "residual", "gtd2", "tdc", "tdrc", "htd"])
def test_head_row_equals_the_table(name):
    features, parameters, batch = problem()
    rule = RULES[f"frozen+{name}"]
    if name == "tdrc":
        rule = rule.with_settings(kappa=0.7)
    directions = rule.directions(features, parameters, batch)
    phi, phi_next, delta = quantities(features, parameters, batch)
    head, auxiliary = entries(name, phi, phi_next, delta, batch, parameters.auxiliary["tdc"], 0.7)
    assert relative_error(directions.head, -head.mean(0)) < 1e-12
    if auxiliary is None:
        assert HEAD_ROWS[name].auxiliary is None
        assert directions.auxiliary == {}
    else:
        (direction,) = directions.auxiliary.values()
        assert relative_error(direction, -auxiliary.mean(0)) < 1e-12


def body_cotangents(name, phi, phi_next, delta, batch, theta, omega):
    """Return (c, c') of the body's table for each sample, written out again."""
    rho, gamma = batch.ratio[:, None], batch.discount[:, None]
    delta = delta[:, None]
    inner = (phi @ omega)[:, None]
    zero = torch.zeros_like(phi)
    return {
        "mspbe": (
            (rho * delta - inner) * omega - rho * inner * theta,
            gamma * rho * inner * theta,
        ),
        "semi_gradient": (-rho * delta * theta, zero),
        "residual": (-rho * delta * theta, gamma * rho * delta * theta),
        "corrected": (-rho * delta * theta, gamma * rho * inner * theta),
        "frozen": (zero, zero),
    }[name]


@pytest.mark.parametrize("name", ["mspbe", "semi_gradient", "residual", "corrected", "frozen"])
def test_body_row_equals_the_table(name):
    features, parameters, batch = problem(BODIES["three layers"])
    directions = RULES[f"{name}+tdc"].directions(features, parameters, batch)
    phi, phi_next, delta = quantities(features, parameters, batch)
    c, c_next = body_cotangents(
        name, phi, phi_next, delta, batch, parameters.head, parameters.auxiliary["tdc"]
    )

    def pairing(body):
        here = features(body, batch.observation)
        there = features(body, batch.next_observation)
        return ((here * c).sum(1) + (there * c_next).sum(1)).mean()

    expected = torch.func.grad(pairing)(parameters.body)
    assert (flat(directions.body) - flat(expected)).abs().max() < 1e-14
    assert (name == "frozen") == bool((flat(expected) == 0).all())


@pytest.mark.parametrize("kind", ["random", "fourier", "observation", "snapshot", "present"])
def test_generalized_directions_equal_autograd_of_their_saddle_form(kind):
    features, parameters, batch = problem()
    rule = RULES["generalized"].with_settings(psi=kind, psi_width=9)
    parameters, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(5))
    drawn = state.auxiliary["generalized"]
    width = {"observation": STATE, "snapshot": 9 + FEATURE, "present": 9 + FEATURE}.get(kind, 9)
    assert parameters.auxiliary["generalized"].shape == (width,)
    omega = torch.randn(width, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    parameters = parameters._replace(auxiliary={"generalized": omega})
    start = dict(parameters.body)

    def psi(body):
        flat_observation = batch.observation
        if kind == "observation":
            return flat_observation
        inputs = flat_observation @ drawn["weight"] + drawn["shift"]
        basis = inputs.cos() if kind == "fourier" else inputs.tanh()
        if kind == "snapshot":
            return torch.cat([basis, features(start, flat_observation)], 1)
        if kind == "present":
            return torch.cat([basis, features(body, flat_observation)], 1)
        return basis

    def objective(body, head, omega):
        phi = features(body, batch.observation)
        phi_next = features(body, batch.next_observation)
        delta = batch.reward + batch.discount * (phi_next @ head) - phi @ head
        inner = psi(body) @ omega
        return (batch.ratio * delta * inner - 0.5 * inner**2).mean()

    body, head, ascent = torch.func.grad(objective, argnums=(0, 1, 2))(*parameters[:2], omega)
    directions = rule.directions(features, parameters, batch, state)
    assert relative_error(flat(directions.body), flat(body)) < 1e-10
    assert relative_error(directions.head, head) < 1e-10
    assert relative_error(directions.auxiliary["generalized"], -ascent) < 1e-10


@pytest.mark.parametrize("correction", [True, False])
def test_nonlinear_rule_equals_its_written_out_form_with_the_full_hessian(correction):
    features, parameters, batch = problem()
    rule = RULES["nonlinear-tdc" if correction else "nonlinear-gtd2"]
    names = sorted(parameters.body)
    shapes = [parameters.body[n].shape for n in names]
    sizes = [math.prod(shape) for shape in shapes]
    flat_u = torch.cat([flat(parameters.body), parameters.head])
    g = torch.Generator().manual_seed(8)
    flat_w = torch.randn(len(flat_u), generator=g, dtype=torch.float64)

    def unflatten(vector):
        *parts, head = vector.split([*sizes, FEATURE])
        views = {n: p.view(s) for n, p, s in zip(names, parts, shapes)}
        return {n: views[n] for n in parameters.body}, head

    def value(u, observation):
        body, head = unflatten(u)
        return features(body, observation[None])[0] @ head

    direction, auxiliary = 0, 0
    for i in range(BATCH):
        rho, gamma = batch.ratio[i], batch.discount[i]
        s, s_next = batch.observation[i], batch.next_observation[i]
        gradient = torch.func.grad(value)(flat_u, s)
        gradient_next = torch.func.grad(value)(flat_u, s_next)
        hessian = torch.func.hessian(value)(flat_u, s)
        delta = batch.reward[i] + gamma * value(flat_u, s_next) - value(flat_u, s)
        inner = gradient @ flat_w
        q = (rho * delta - inner) * hessian @ flat_w
        if correction:
            direction += rho * delta * gradient - gamma * rho * gradient_next * inner - q
        else:
            direction += rho * (gradient - gamma * gradient_next) * inner - q
        auxiliary += (rho * delta - inner) * gradient
    w_body, w_head = unflatten(flat_w)
    parameters = parameters._replace(auxiliary={"body": w_body, "head": w_head})
    directions = rule.directions(features, parameters, batch)
    got = torch.cat([flat(directions.body), directions.head])
    assert relative_error(got, -direction / BATCH) < 1e-10
    got = torch.cat([flat(directions.auxiliary["body"]), directions.auxiliary["head"]])
    assert relative_error(got, -auxiliary / BATCH) < 1e-10
