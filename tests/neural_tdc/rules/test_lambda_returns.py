"""λ over segments of a stream: every row against autograd of what it descends."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.learning.algorithm import Algorithm, initial_state, population, step
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes, Transition, mapped

STATE, FEATURE, PSI = 3, 4, 7
F64 = torch.float64
DECAYS = [0.0, 0.6, 1.0]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(seed=0):
    """Make a body, a head and auxiliary vectors in float64, none of them 0."""
    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, (6,)).double()
    body = {name: 2 * p.detach() for name, p in module.named_parameters()}
    names = ("tdc", "tdrc", "htd")
    auxiliary = {name: draw(FEATURE, seed=seed + i) for i, name in enumerate(names, 2)}
    auxiliary["generalized"] = draw(PSI, seed=seed + 9)
    return feature_map(module), Parameters(body, draw(FEATURE, seed=seed + 1), auxiliary)


def segments(off_policy=True, seed=0):
    """Return three segments of 6, 3 and 4 transitions, one after another.

    The first has a termination inside, the second a cut by a time limit, the last an end at once.
    """
    count = 13
    observation = draw(count, STATE, seed=seed)
    # Where transition k+1 continues k, they share the observation between them.
    following = torch.cat([observation[1:], draw(1, STATE, seed=seed + 1)])
    discount = torch.full((count,), 0.9, dtype=F64)
    first = torch.zeros(count, dtype=F64)
    first[[0, 6, 9]] = 1
    discount[[2, 9]] = 0
    first[[3, 10]] = 1
    first[8] = 1
    for cut in (2, 5, 7, 8, 9):
        following[cut] = draw(STATE, seed=seed + cut)
    ratio = torch.ones(count, dtype=F64)
    if off_policy:
        ratio = 2 * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return Transition(observation, draw(count, seed=seed + 20), discount, following, ratio, first)


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


def with_lambda(name, decay, **settings):
    return RULES[name].with_settings(**settings).with_lambda_returns(decay)


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])


def close(left, right, tolerance=1e-10):
    assert float((left - right).norm()) <= tolerance * float(right.norm()), (left, right)


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


@pytest.mark.parametrize("name", [*RULES, "semi_gradient+lstd", "mspbe+td", "generalized+tdc"])
def test_with_lambda_zero_and_with_segments_of_one_every_bit_is_that_of_the_tables(name):
    if name in ("etd", "ttn") or name.startswith("nonlinear"):
        with pytest.raises(ValueError, match=r"^trace_decay 0\.7 is not defined"):
            RULES[name].with_lambda_returns(0.7)
        assert RULES[name].with_lambda_returns(0.0) == RULES[name]
        return
    features, parameters = network()
    batch = segments()
    alone = batch._replace(first=torch.ones_like(batch.reward))
    generator = torch.Generator()
    rule = RULES[name]
    _, state = rule.init(parameters, batch.observation, generator.manual_seed(3))
    parameters = parameters._replace(
        auxiliary={**parameters.auxiliary, "generalized": draw(4 * FEATURE, seed=8)}
    )
    expected = rule.update(features, parameters, batch, state)
    directions = rule.directions(features, parameters, batch, expected)
    assert rule.with_lambda_returns(0.0) == rule
    changed = rule.with_lambda_returns(0.7)
    after = changed.update(features, parameters, alone, state)
    for one, other in zip(
        (directions.head, *directions.body.values(), *directions.auxiliary.values()),
        (lambda d: (d.head, *d.body.values(), *d.auxiliary.values()))(
            changed.directions(features, parameters, alone, after)
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


def backward_view(head, batch, parameters, decay):
    """Return the sums of what the eligibility traces subtract over a stream, all held still."""
    rule = RULES[f"frozen+{head}"].with_settings(trace_decay=decay)
    _, state = rule.init(parameters, batch.observation, torch.Generator())
    total, auxiliary = 0, 0
    for k in range(len(batch.reward)):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = rule.update(given_features, parameters, single, state)
        found = rule.directions(given_features, parameters, single, state)
        total = total + found.head
        auxiliary = auxiliary + sum(found.auxiliary.values())
    return total, auxiliary


@pytest.mark.parametrize("head", ["td", "gtd2", "htd"])
@pytest.mark.parametrize("decay", [0.3, 1.0])
def test_the_forward_view_is_the_backward_view_for_features_that_stand_still(head, decay):
    parameters = Parameters({}, draw(STATE, seed=1), dict.fromkeys(("tdc", "htd"), draw(STATE)))
    batch = segments()
    rule = RULES[f"frozen+{head}"].with_lambda_returns(decay)
    found = rule.directions(given_features, parameters, batch)
    total, auxiliary = backward_view(head, batch, parameters, decay)
    close(13 * found.head, total, 1e-13)
    if found.auxiliary:
        close(13 * sum(found.auxiliary.values()), auxiliary, 1e-13)


def test_tdc_forward_and_backward_differ_by_the_ratio_of_the_transition_that_is_reached():
    # What is carried to k+1 is corrected at φ'_k = φ_{k+1} in the backward view, and there, behind
    # ρ_{k+1}, in the forward view. On-policy they are the same where no episode is cut.
    parameters = Parameters({}, draw(STATE, seed=1), {"tdc": draw(STATE)})
    batch = segments(off_policy=False)
    ends = batch.first.roll(-1) == 1
    batch = batch._replace(discount=torch.where(ends, 0.0, batch.discount))
    found = (
        RULES["frozen+tdc"].with_lambda_returns(0.8).directions(given_features, parameters, batch)
    )
    total, auxiliary = backward_view("tdc", batch, parameters, 0.8)
    close(13 * found.head, total, 1e-13)
    close(13 * found.auxiliary["tdc"], auxiliary, 1e-13)


def test_lstd_of_segments_keeps_the_statistics_of_the_traces():
    parameters = Parameters({}, draw(STATE, seed=1), {})
    batch = segments()
    forward = RULES["frozen+lstd"].with_lambda_returns(0.7)
    _, state = forward.init(parameters, batch.observation, torch.Generator())
    whole = forward.update(given_features, parameters, batch, state).head
    traced = RULES["frozen+lstd"].with_settings(trace_decay=0.7, lstd_window=10**9)
    _, state = traced.init(parameters, batch.observation, torch.Generator())
    for k in range(13):
        single = mapped(batch, lambda leaf, k=k: leaf[k : k + 1])
        state = traced.update(given_features, parameters, single, state)
    close(whole["matrix"], state.head["matrix"], 1e-13)
    close(whole["vector"], state.head["vector"], 1e-13)


@pytest.mark.parametrize("name", ["tdc", "htd", "residual", "generalized+tdrc"])
def test_a_population_with_lambda_equals_one_run_at_a_time(name):
    rule = with_lambda(name, 0.8)
    features, parameters = network()
    algorithm = Algorithm(rule, features)
    runs = []
    for seed in range(3):
        complete, state = rule.init(parameters, draw(4, STATE), torch.Generator().manual_seed(seed))
        started = complete._replace(head=draw(FEATURE, seed=seed))
        runs.append(initial_state(algorithm, started, state))
    batches = [segments(seed=seed) for seed in range(3)]
    sizes = StepSizes(0.1, 0.2, 0.3)
    together = population(partial(step, algorithm))(
        tree_map(lambda *leaves: torch.stack(leaves), *runs),
        tree_map(lambda *leaves: torch.stack(leaves), *batches),
        tree_map(lambda size: torch.full((3,), size, dtype=F64), sizes),
    )
    for run, (state, batch) in enumerate(zip(runs, batches, strict=True)):
        alone = step(algorithm, state, batch, sizes)
        for one, many in zip(tree_leaves(alone), tree_leaves(together), strict=True):
            assert torch.allclose(one, many[run], rtol=1e-12, atol=1e-14)
