"""Every row of the tables against autograd, and whole rules against written-out references."""

import math

import pytest
import torch

from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.bodies import MspbeBody
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.heads import TdcHead
from neural_tdc.rules.registry import HEAD_ROWS, RULES
from neural_tdc.types import Parameters, Transition

BATCH, STATE, HIDDEN, FEATURE = 7, 3, 5, 4
BODIES = {"one layer": (), "three layers": (HIDDEN, 6)}


def problem(hidden=(HIDDEN,), on_policy=False, seed=0, batch=BATCH):
    """Draw a network, an auxiliary vector and a batch in float64, all sizes different."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, hidden).double()
    body = {name: p.detach() for name, p in module.named_parameters()}
    head, omega = draw(FEATURE), draw(FEATURE)
    # Every rule finds the same ω under the name of its own vector.
    parameters = Parameters(body, head, dict.fromkeys(("tdc", "tdrc", "htd"), omega))
    ended = torch.rand(batch, generator=g, dtype=torch.float64) < 0.2
    transitions = Transition(
        draw(batch, STATE),
        draw(batch),
        0.9 * (~ended).double(),
        draw(batch, STATE),
        torch.ones(batch, dtype=torch.float64)
        if on_policy
        else 2 * torch.rand(batch, generator=g, dtype=torch.float64),
    )
    return feature_map(module), parameters, transitions


def quantities(features, parameters, batch):
    """Return φ, φ' and δ, written out once more."""
    phi = features(parameters.body, batch.observation)
    phi_next = features(parameters.body, batch.next_observation)
    theta = parameters.head
    delta = batch.reward + batch.discount * (phi_next @ theta) - phi @ theta
    return phi, phi_next, delta


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


def relative_error(left, right):
    return float((left - right).norm() / right.norm())


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])


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


def test_a_snapshot_is_renewed_after_its_period():
    features, parameters, batch = problem()
    rule = RULES["generalized"].with_settings(psi="snapshot", psi_period=2)
    parameters, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(0))
    moved = parameters._replace(body={n: p + 1 for n, p in parameters.body.items()})
    name = next(iter(parameters.body))
    seen = []
    for _ in range(4):
        state = rule.update(features, moved, batch, state)
        copy = state.auxiliary["generalized"]["body"]
        seen.append(bool(torch.equal(copy[name], moved.body[name])))
    assert seen == [False, False, True, True]


def test_emphatic_trace_follows_its_recursion():
    rule = RULES["etd"]
    features, parameters, _ = problem()
    parameters, state = rule.init(parameters, torch.zeros(2, STATE).double(), torch.Generator())
    ratios, discounts, firsts = [0.5, 2.0, 3.0, 1.5], [0.9, 0.0, 0.8, 0.9], [1, 0, 0, 0]
    # F₀ = 1, F₁ = 1 + .9·.5·1 = 1.45, F₂ = 1 (an end lies between), F₃ = 1 + .8·3·1 = 3.4
    for expected, ratio, discount, first in zip([1, 1.45, 1, 3.4], ratios, discounts, firsts):
        _, _, batch = problem(batch=1)
        batch = batch._replace(
            ratio=torch.tensor([ratio], dtype=torch.float64),
            discount=torch.tensor([discount], dtype=torch.float64),
            first=torch.tensor([first], dtype=torch.float64),
        )
        state = rule.update(features, parameters, batch, state)
        assert float(state.weight["emphasis"]) == pytest.approx(expected, abs=1e-15)
        emphatic = rule.directions(features, parameters, batch, state)
        plain = RULES["td"].directions(features, parameters, batch)
        assert relative_error(emphatic.head, expected * plain.head) < 1e-12
        assert relative_error(flat(emphatic.body), expected * flat(plain.body)) < 1e-12


def test_emphatic_trace_starts_afresh_where_an_episode_was_cut():
    _, parameters, batch = problem(batch=1)
    weight = {"emphasis": torch.ones(1), "carried": torch.full((1,), 4.0)}
    state = NO_STATE._replace(weight=weight)
    first = batch._replace(first=torch.ones(1))
    again = RULES["etd"].update(lambda *_: None, parameters, first, state)
    assert float(again.weight["emphasis"]) == 1


def test_emphatic_td_refuses_a_larger_batch():
    rule = RULES["etd"]
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator())
    with pytest.raises(ValueError, match="batch 1, not 7"):
        rule.update(features, parameters, batch, state)


def test_lstd_head_is_assigned_the_solution_of_all_that_was_seen():
    rule = RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-3)
    features, parameters, _ = problem()
    batches = [problem(seed=seed)[2] for seed in range(5)]
    parameters, state = rule.init(parameters, batches[0].observation, torch.Generator())
    matrix = torch.zeros(FEATURE, FEATURE).double()
    vector = torch.zeros(FEATURE).double()
    for batch in batches:
        state = rule.update(features, parameters, batch, state)
        phi, phi_next, _ = quantities(features, parameters, batch)
        for i in range(BATCH):
            difference = phi[i] - batch.discount[i] * phi_next[i]
            matrix += batch.ratio[i] * torch.outer(phi[i], difference) / (5 * BATCH)
            vector += batch.ratio[i] * batch.reward[i] * phi[i] / (5 * BATCH)
    expected = torch.linalg.solve(matrix + 1e-3 * torch.eye(FEATURE).double(), vector)
    direction = rule.directions(features, parameters, batches[-1], state).head
    assert relative_error(parameters.head - direction, expected) < 1e-10


def test_lstd_with_a_window_of_one_batch_forgets_the_others():
    rule = RULES["frozen+lstd"].with_settings(lstd_window=1)
    features, parameters, batch = problem()
    parameters, fresh = rule.init(parameters, batch.observation, torch.Generator())
    old = rule.update(features, parameters, problem(seed=9)[2], fresh)
    after_old = rule.update(features, parameters, batch, old)
    alone = rule.update(features, parameters, batch, fresh)
    assert torch.allclose(after_old.head["matrix"], alone.head["matrix"], atol=1e-15)
    assert not torch.allclose(after_old.head["matrix"], old.head["matrix"])


def test_two_timescale_body_follows_its_own_slow_head():
    rule = RULES["ttn"]
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator())
    slow = torch.randn(FEATURE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parameters = parameters._replace(body={**parameters.body, "slow_head": slow})
    directions = rule.directions(features, parameters, batch, state)
    as_td = Parameters({n: p for n, p in parameters.body.items() if n != "slow_head"}, slow, {})
    reference = RULES["td"].directions(features, as_td, batch)
    names = list(as_td.body)
    assert (
        relative_error(flat({n: directions.body[n] for n in names}), flat(reference.body)) < 1e-12
    )
    assert relative_error(directions.body["slow_head"], reference.head) < 1e-12
    fast = RULES["frozen+tdc"].directions(features, parameters, batch)
    assert torch.equal(directions.head, fast.head)
    assert torch.equal(directions.auxiliary["tdc"], fast.auxiliary["tdc"])


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


def test_ridge_adds_its_gradient_to_the_head():
    features, parameters, batch = problem()
    plain = RULES["tdc"].directions(features, parameters, batch)
    ridged = RULES["tdc"].with_settings(ridge=0.25).directions(features, parameters, batch)
    assert torch.allclose(ridged.head, plain.head + 0.25 * parameters.head, atol=1e-14)


def test_a_body_gets_the_auxiliary_that_its_head_does_not_keep():
    kept = {
        name: RULES[name].auxiliaries
        for name in ["tdc", "td", "mspbe+td", "mspbe+tdrc", "corrected+tdrc", "mspbe+htd"]
    }
    assert kept == {
        "tdc": ("tdc",),
        "td": (),
        "mspbe+td": ("tdc",),
        "mspbe+tdrc": ("tdrc", "tdc"),
        "corrected+tdrc": ("tdrc",),
        "mspbe+htd": ("htd", "tdc"),
    }


def test_two_auxiliary_vectors_do_not_mix():
    features, parameters, batch = problem()
    g = torch.Generator().manual_seed(4)
    htd = torch.randn(FEATURE, generator=g, dtype=torch.float64)
    tdc = torch.randn(FEATURE, generator=g, dtype=torch.float64)
    parameters = parameters._replace(auxiliary={"htd": htd, "tdc": tdc})
    both = RULES["mspbe+htd"].directions(features, parameters, batch)
    as_htd = RULES["htd"].directions(features, parameters, batch)
    as_tdc = RULES["tdc"].directions(features, parameters, batch)
    assert torch.allclose(both.head, as_htd.head, atol=1e-14)
    separate = {**as_htd.auxiliary, **as_tdc.auxiliary}
    assert both.auxiliary.keys() == separate.keys() == {"htd", "tdc"}
    assert all(torch.allclose(both.auxiliary[n], separate[n], atol=1e-14) for n in separate)
    assert torch.allclose(flat(both.body), flat(as_tdc.body), atol=1e-14)


def test_generalized_body_under_a_tdc_head_keeps_both_vectors_and_finds_omega():
    rule = RULES["generalized+tdc"].with_settings(psi_width=9)
    features, parameters, batch = problem()
    parameters, state = rule.init(parameters, batch.observation, torch.Generator().manual_seed(0))
    shapes = {name: tuple(vector.shape) for name, vector in parameters.auxiliary.items()}
    assert shapes == {"tdc": (FEATURE,), "generalized": (9,)}
    vectors = {"tdc": torch.arange(4).double(), "generalized": torch.ones(9).double()}
    omega, regulariser = rule.omega(parameters._replace(auxiliary=vectors))
    assert omega.tolist() == [0, 1, 2, 3]
    assert regulariser == 0
    directions = rule.directions(features, parameters, batch, state)
    assert {name: tuple(each.shape) for name, each in directions.auxiliary.items()} == shapes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcd", "did you mean"),
        ("TD", "did you mean td"),
        ("mspb+tdc", "did you mean mspbe"),
        ("mspbe+tcd", "did you mean"),
        ("mspbe+etd", "goes with the bodies semi_gradient and frozen only"),
        ("corrected+vtrace", "reweighs every sample"),
        ("nothing-like-it", "is not one of tdc, td, gtd2"),
    ],
)
def test_an_unknown_or_illegal_rule_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        RULES[name]
    assert message in str(refusal.value)


def test_the_registry_has_the_promised_names():
    promised = "tdc td gtd2 tdrc htd vtrace etd residual generalized ttn"
    assert set(RULES) == {*promised.split(), "nonlinear-tdc", "nonlinear-gtd2"}
    assert (RULES["tdc"].body, RULES["tdc"].head) == (MspbeBody(), TdcHead())


def test_given_features_freeze_the_body():
    features, parameters, batch = problem()
    phi = batch._replace(
        observation=features(parameters.body, batch.observation),
        next_observation=features(parameters.body, batch.next_observation),
    )
    given = parameters._replace(body={})
    frozen = RULES["tdc"].with_given_features().directions(lambda _, x: x, given, phi)
    learned = RULES["tdc"].directions(features, parameters, batch)
    assert frozen.body == {}
    assert torch.allclose(frozen.head, learned.head, atol=1e-15)
