"""λ over segments of a stream: every row against autograd of what it descends."""

import pytest
import torch

from tests.neural_tdc.rules.segments import (
    F64,
    FEATURE,
    PSI,
    close,
    network,
    segments,
    with_lambda,
)

DECAYS = [0.0, 0.6, 1.0]


def pieces(batch):
    """Return the runs of consecutive transitions, as lists of row numbers."""
    starts = [k for k in range(len(batch.reward)) if batch.first[k] == 1]
    return [list(range(a, b)) for a, b in zip(starts, [*starts[1:], len(batch.reward)])]


def one_step_errors(features, batch, body, head):
    value = features(body, batch.observation) @ head
    return batch.reward + batch.discount * (features(body, batch.next_observation) @ head) - value


def lambda_errors(errors, batch, decay):
    """Return (δ^λ, e) with δ^λ = ρe and e_k = δ_k + γ_kλδ^λ_{k+1}, by a loop from the end."""
    weighted, reached = {}, {}
    for piece in pieces(batch):
        later = torch.zeros((), dtype=F64)
        for k in reversed(piece):
            reached[k] = errors[k] + batch.discount[k] * decay * later
            later = weighted[k] = batch.ratio[k] * reached[k]
    order = range(len(batch.reward))
    return torch.stack([weighted[k] for k in order]), torch.stack([reached[k] for k in order])


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])


def saddle(features, batch, decay, inner):
    """Return mean δ^λu − ½u² as a function of (body, head, ω); inner: u of (body, ω)."""

    def objective(body, head, omega):
        errors = one_step_errors(features, batch, body, head)
        weighted, _ = lambda_errors(errors, batch, decay)
        u = inner(body, omega)
        return (weighted * u - 0.5 * u.square()).mean()

    return objective


@pytest.mark.parametrize("off_policy", [False, True], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("decay", DECAYS)
def test_algorithm_1_in_gtd2_form_is_the_gradient_of_the_saddle_form(decay, off_policy):
    features, parameters = network()
    batch = segments(off_policy)
    omega = parameters.auxiliary["tdc"]
    objective = saddle(
        features, batch, decay, lambda body, omega: features(body, batch.observation) @ omega
    )
    body, head, ascent = torch.func.grad(objective, argnums=(0, 1, 2))(*parameters[:2], omega)
    found = with_lambda("gtd2", decay).directions(features, parameters, batch)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["tdc"], -ascent)


@pytest.mark.parametrize("psi", ["random", "fourier", "present"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_generalized_rule_is_the_gradient_of_its_saddle_form(decay, psi):
    features, parameters = network()
    batch = segments()
    width = PSI - FEATURE if psi == "present" else PSI
    rule = with_lambda("generalized", decay, psi=psi, psi_width=width)
    _, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(5))
    drawn = state.auxiliary["generalized"]

    def inner(body, omega):
        inputs = batch.observation @ drawn["weight"] + drawn["shift"]
        basis = inputs.cos() if psi == "fourier" else inputs.tanh()
        own = [features(body, batch.observation)] if psi == "present" else []
        return torch.cat([basis, *own], 1) @ omega

    omega = parameters.auxiliary["generalized"]
    objective = saddle(features, batch, decay, inner)
    body, head, ascent = torch.func.grad(objective, argnums=(0, 1, 2))(*parameters[:2], omega)
    found = rule.directions(features, parameters, batch, state)
    close(flat(found.body), flat(body))
    close(found.head, head)
    close(found.auxiliary["generalized"], -ascent)


@pytest.mark.parametrize("off_policy", [False, True], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_residual_rule_descends_the_squared_error(decay, off_policy):
    features, parameters = network()
    batch = segments(off_policy)

    def objective(body, head):
        errors = one_step_errors(features, batch, body, head)
        weighted, reached = lambda_errors(errors, batch, decay)
        # ½ρe²; on-policy it is ½(δ^λ)².
        return 0.5 * (weighted * reached).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = with_lambda("residual", decay).directions(features, parameters, batch)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("clipped", [False, True], ids=["td", "vtrace"])
@pytest.mark.parametrize("decay", DECAYS)
def test_td_follows_the_errors_of_lambda_with_the_targets_held_still(decay, clipped):
    features, parameters = network()
    batch = segments()
    seen = batch._replace(ratio=batch.ratio.clamp(max=1)) if clipped else batch
    fixed = lambda_errors(one_step_errors(features, batch, *parameters[:2]), seen, decay)[0]

    def objective(body, head):
        return -(fixed * (features(body, batch.observation) @ head)).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    rule = with_lambda("vtrace" if clipped else "td", decay)
    found = rule.directions(features, parameters, batch)
    close(flat(found.body), flat(body))
    close(found.head, head)


def weights_of_errors(features, parameters, batch, decay, omega):
    """Return u and m(u) = dΣδ^λu/dδ by autograd."""
    u = features(parameters.body, batch.observation) @ omega
    errors = one_step_errors(features, batch, *parameters[:2])
    m = torch.func.grad(lambda errors: (lambda_errors(errors, batch, decay)[0] * u).sum())(errors)
    return u, m


@pytest.mark.parametrize("name", ["tdc", "tdrc"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_head_in_tdc_form_differs_from_gtd2_by_what_is_0_at_omega_star(decay, name):
    features, parameters = network()
    batch = segments()
    omega = parameters.auxiliary[name]
    same = parameters._replace(auxiliary=dict.fromkeys(parameters.auxiliary, omega))
    u, _ = weights_of_errors(features, parameters, batch, decay, omega)
    weighted, _ = lambda_errors(one_step_errors(features, batch, *parameters[:2]), batch, decay)
    phi = features(parameters.body, batch.observation)
    # E[(δ^λ − ρu)φ] = 0 at ω*.
    difference = (weighted - batch.ratio * u) @ phi / len(u)
    found = with_lambda(name, decay).directions(features, same, batch)
    gtd2 = with_lambda("gtd2", decay).directions(features, same, batch)
    close(found.head, gtd2.head - difference)
    shrinkage = {"tdc": 0.0, "tdrc": 1.0}[name]
    close(found.auxiliary[name], shrinkage * omega - (weighted - u) @ phi / len(u))


@pytest.mark.parametrize("decay", DECAYS)
def test_the_corrected_body_is_pulled_along_the_same_direction_as_its_head(decay):
    features, parameters = network()
    batch = segments()
    omega = parameters.auxiliary["tdrc"]
    u, m = weights_of_errors(features, parameters, batch, decay, omega)
    weighted, _ = lambda_errors(one_step_errors(features, batch, *parameters[:2]), batch, decay)

    def objective(body, head):
        here = features(body, batch.observation) @ head
        there = features(body, batch.next_observation) @ head
        return (-(weighted + m - batch.ratio * u) * here + batch.discount * m * there).mean()

    body, head = torch.func.grad(objective, argnums=(0, 1))(*parameters[:2])
    found = with_lambda("tdrc", decay).directions(features, parameters, batch)
    close(flat(found.body), flat(body))
    close(found.head, head)


@pytest.mark.parametrize("decay", DECAYS)
def test_htd_replaces_the_ratios_by_those_of_the_behaviour(decay):
    features, parameters = network()
    batch = segments()
    omega = parameters.auxiliary["htd"]
    u, m = weights_of_errors(features, parameters, batch, decay, omega)
    on_policy = batch._replace(ratio=torch.ones_like(batch.ratio))
    _, n = weights_of_errors(features, parameters, on_policy, decay, omega)
    weighted, _ = lambda_errors(one_step_errors(features, batch, *parameters[:2]), batch, decay)
    phi = features(parameters.body, batch.observation)
    change = phi - batch.discount[:, None] * features(parameters.body, batch.next_observation)
    found = with_lambda("htd", decay).directions(features, parameters, batch)
    close(found.head, -(weighted @ phi + (m - n) @ change) / len(u))
    close(found.auxiliary["htd"], -(weighted @ phi - n @ change) / len(u))
