"""Values of actions: every row of the tables against autograd, with a head for each action."""

import pytest
import torch

from neural_tdc.rules.registry import RULES
from tests.neural_tdc.action_values.taken import (
    ACTION,
    COUNT,
    DECAYS,
    FEATURE,
    PSI,
    Taken,
    carried_weights,
    close,
    directions,
    draw,
    flat,
    inner_products,
    lambda_errors,
    network,
    phi,
    td_errors,
)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_two_scalars_are_a_sum_and_its_derivative(decay):
    taken = Taken()
    errors, u = draw(COUNT, seed=1), draw(COUNT, seed=2)
    total = torch.func.grad(lambda e: (lambda_errors(e, taken, decay) * u).sum())
    close(carried_weights(u, taken, decay), total(errors))


@pytest.mark.parametrize("decay", DECAYS)
def test_algorithm_1_in_gtd2_form_is_the_gradient_of_the_saddle_form(decay):
    module, features, parameters = network()
    taken = Taken()

    def saddle(body, head, omega):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        u = inner_products(module, taken, body, omega)
        return (errors * u - 0.5 * u.square()).mean()

    arguments = (parameters.body, parameters.head, parameters.auxiliary["tdc"])
    body, head, ascent = torch.func.grad(saddle, argnums=(0, 1, 2))(*arguments)
    found = directions("gtd2", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["tdc"], -ascent)


@pytest.mark.parametrize("psi", ["random", "fourier"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_generalized_rule_is_the_gradient_of_its_saddle_form(decay, psi):
    module, features, parameters = network()
    taken = Taken()
    rule = RULES["generalized"].with_settings(psi=psi, psi_width=PSI)
    source = torch.Generator().manual_seed(5)
    _, state = rule.init(parameters, taken.batch.observation, source)
    drawn = state.auxiliary["generalized"]
    one_hot = torch.nn.functional.one_hot(taken.action, ACTION).double()
    inputs = torch.cat([taken.seen.observation, one_hot], 1) @ drawn["weight"] + drawn["shift"]
    basis = inputs.cos() if psi == "fourier" else inputs.tanh()

    def saddle(body, head, omega):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        u = basis @ omega
        return (errors * u - 0.5 * u.square()).mean()

    arguments = (parameters.body, parameters.head, parameters.auxiliary["generalized"])
    body, head, ascent = torch.func.grad(saddle, argnums=(0, 1, 2))(*arguments)
    settings = {"psi": psi, "psi_width": PSI}
    found = directions("generalized", taken, features, parameters, decay, state, **settings)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["generalized"], -ascent)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_residual_rule_descends_the_squared_error(decay):
    module, features, parameters = network()
    taken = Taken()

    def objective(body, head):
        errors = lambda_errors(td_errors(module, taken, body, head), taken, decay)
        return 0.5 * errors.square().mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = directions("residual", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("decay", DECAYS)
def test_td_follows_the_errors_of_lambda_with_the_targets_held_still(decay):
    module, features, parameters = network()
    taken = Taken()
    fixed = lambda_errors(td_errors(module, taken, *parameters[:2]), taken, decay)

    def objective(body, head):
        return -(fixed * inner_products(module, taken, body, head)).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = directions("td", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("name", ["tdc", "tdrc"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_corrected_rows_replace_what_is_0_at_omega_star(decay, name):
    module, features, parameters = network()
    taken = Taken()
    omega = parameters.auxiliary[name]
    u = inner_products(module, taken, parameters.body, omega)
    m = carried_weights(u, taken, decay)
    errors = lambda_errors(td_errors(module, taken, *parameters[:2]), taken, decay)

    def pulled(body, head):
        observation, _, discount, following, *_ = taken.seen
        heads = head.view(ACTION, FEATURE)
        here = (heads[taken.action] * phi(module, body, observation)).sum(1)
        there = (taken.next_probability * (phi(module, body, following) @ heads.T)).sum(1)
        # At λ = 0, where m = u: −δθ into φ and γuθ into φ'.
        return (-(errors + m - u) * here + discount * m * there).mean()

    body, head = torch.func.grad(pulled, argnums=(0, 1))(*parameters[:2])
    found = directions(f"corrected+{name}", taken, features, parameters, decay)
    close(flat(found.body), flat(body))
    close(found.head, head)
    along = torch.func.grad(
        lambda w: inner_products(module, taken, parameters.body, w) @ (errors - u)
    )
    shrinkage = {"tdc": 0.0, "tdrc": 1.0}[name]
    close(found.auxiliary[name], shrinkage * omega - along(omega) / COUNT)


def test_lstd_solves_for_the_heads_of_all_actions():
    module, features, parameters = network()
    taken = Taken()
    rule = RULES["frozen+lstd"].with_settings(lstd_window=1, lstd_epsilon=0.2)
    parameters = parameters._replace(auxiliary={})
    _, state = rule.init(parameters, taken.batch.observation, torch.Generator())
    state = rule.update(features, parameters, taken.batch, state)
    found = rule.directions(features, parameters, taken.batch, state)
    solved = parameters.head - found.head

    def projected(head):
        errors = td_errors(module, taken, parameters.body, head)
        along = torch.func.grad(
            lambda w: (inner_products(module, taken, parameters.body, w) * errors).mean()
        )
        return along(torch.zeros_like(head)) - 0.2 * head

    assert float(projected(solved).norm()) < 1e-10 * float(projected(0 * solved).norm())


NONLINEAR = ["nonlinear-tdc", "nonlinear-gtd2"]


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_nonlinear_rules_project_on_the_tangent_space_of_q(name):
    module, features, parameters = network()
    taken = Taken()
    rule = RULES[name].with_action_values()
    w = ({k: draw(*v.shape, seed=3) for k, v in parameters.body.items()}, draw(20, seed=4))
    started, _ = rule.init(parameters, taken.batch.observation, torch.Generator())
    started = started._replace(auxiliary={"body": w[0], "head": w[1]})
    u = parameters[:2]

    def value(u):
        return inner_products(module, taken, *u)

    def slope(u):
        return torch.func.jvp(value, (u,), (w,))[1]

    errors, along = td_errors(module, taken, *u), slope(u)

    def rising(u):
        # The gradient of this is g-weighted, with the Hessian's product q.
        later = td_errors(module, taken, *u) - taken.seen.reward + value(u)
        onto_here = errors if name == "nonlinear-tdc" else along
        return (onto_here * value(u) - along * later - (errors - along) * slope(u)).mean()

    expected = torch.func.grad(rising)(u)
    found = rule.directions(features, started, taken.batch)
    close(flat(found.body), -flat(expected[0]))
    close(found.head, -expected[1])
