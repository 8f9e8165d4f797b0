"""What each rule does, in expectation, on the problems that were made to show it.

An expected update with given features is an affine map of (θ, ω). Its fixed point attracts for
small step sizes where every eigenvalue of the map's matrix has a positive real part, since
directions are subtracted.
"""

import pytest
import torch

from envs.finite.counterexamples import SPIRAL_START, spiral_body
from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import exact_transitions
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

F64 = torch.float64


def expected_directions(rule, features, parameters, mdp, table):
    """Return the mean directions over all transitions, by their probabilities."""
    transitions, weights = exact_transitions(mdp)
    single = Transition(
        *(
            leaf[:, None]
            for leaf in transitions._replace(
                observation=table[transitions.observation],
                next_observation=table[transitions.next_observation],
                first=torch.zeros_like(weights),
            )
        )
    )
    each = torch.vmap(lambda batch: rule.directions(features, parameters, batch))(single)
    return weights, each


def affine(rule, mdp, step_ratio=1.0):
    """Return matrix and offset of the expected update of (θ, ω), ω at `step_ratio` times θ's step.

    The direction, which is subtracted, is matrix·(θ, ω) + offset.
    """
    size, names = mdp.features.shape[1], list(rule.auxiliaries)

    def direction(both):
        parameters = Parameters({}, both[:size], dict.fromkeys(names, both[size:]))
        weights, each = expected_directions(
            rule, lambda body, feature: feature, parameters, mdp, mdp.features
        )
        auxiliary = [step_ratio * weights @ each.auxiliary[name] for name in names]
        return torch.cat([weights @ each.head, *auxiliary])

    unit = torch.eye(size * (1 + len(names)), dtype=F64)
    offset = direction(0 * unit[0])
    return torch.stack([direction(row) - offset for row in unit], 1), offset


def drift(rule, mdp, step_ratio=1.0):
    return affine(rule, mdp, step_ratio)[0]


def error_of_fixed_point(rule, mdp):
    """Return the RMSVE where the expected update stands still."""
    both = -torch.linalg.solve(*affine(rule, mdp))
    difference = mdp.features @ both[: mdp.features.shape[1]] - chain(mdp).value()
    return (chain(mdp).weighting @ difference**2).sqrt().item()


def attracts(rule, mdp, step_ratio=1.0):
    return bool(torch.linalg.eigvals(drift(rule, mdp, step_ratio)).real.min() > 0)


@pytest.mark.parametrize(
    ("head", "step_ratio", "stable"),
    [
        ("td", 1, False),
        ("vtrace", 1, False),
        ("htd", 1, False),
        ("htd", 100, True),
        ("residual", 1, True),
        ("gtd2", 1, True),
        ("tdc", 1, True),
        ("tdc", 100, True),
        ("tdrc", 1, False),
        ("tdrc", 100, False),
    ],
)
def test_which_rules_are_stable_on_two_states(head, step_ratio, stable):
    assert attracts(RULES[f"frozen+{head}"], problem("two-states"), step_ratio) == stable


@pytest.mark.parametrize(("kappa", "stable"), [(0.46, True), (0.48, False)])
def test_tdrc_is_stable_on_two_states_below_its_bound_on_kappa(kappa, stable):
    # 3γ − 2.5 = 0.47
    rule = RULES["frozen+tdrc"].with_settings(kappa=kappa)
    assert attracts(rule, problem("two-states")) == stable


def test_the_drift_of_td_on_two_states_by_hand():
    # Half the states have φ = 1 and half 2, and all lead to 2: ½·1·(1 − 2γ) + ½·2·(2 − 2γ).
    gamma = 0.99
    expected = 0.5 * (1 - 2 * gamma) + 0.5 * 2 * (2 - 2 * gamma)
    assert drift(RULES["frozen+td"], problem("two-states")).item() == pytest.approx(expected)


def test_kolters_fixed_point_is_far_from_values_that_the_feature_has():
    mdp = problem("kolter")
    exact = chain(mdp)
    moments = exact.moments(mdp.features)
    assert torch.allclose(exact.value(), torch.tensor([1, 1.05], dtype=F64))
    assert 0 < moments.A.item() < 1e-4
    best, fixed = exact.best_linear_rmsve(mdp.features), exact.lstd_rmsve(mdp.features)
    assert best < 5e-5
    assert fixed == pytest.approx(0.5865, abs=1e-4)


def test_collision_has_powers_of_the_discount_as_values_and_three_bits_a_state():
    mdp = problem("collision")
    assert torch.allclose(chain(mdp).value(), 0.9 ** torch.arange(7, -1, -1, dtype=F64))
    assert mdp.features.sum(1).tolist() == [3] * 8
    assert len({tuple(row) for row in mdp.features.tolist()}) == 8
    _, weights = exact_transitions(mdp)
    assert weights.sum().item() == pytest.approx(1)
    assert not torch.equal(problem("collision-3").features, mdp.features)
    assert attracts(RULES["frozen+tdc"], mdp)


def test_the_walk_of_19_states_has_evenly_spaced_values():
    expected = torch.arange(-9, 10, dtype=F64) / 10
    assert torch.allclose(chain(problem("random-walk-19")).value(), expected)


@pytest.mark.parametrize("head", ["td", "htd", "gtd2", "tdc", "tdrc"])
@pytest.mark.parametrize(
    ("name", "error"), [("kolter", 0.5865), ("collision", None), ("random-walk-19", 0)]
)
def test_td_and_gradient_rules_lead_to_the_td_fixed_point(name, error, head):
    rule, mdp = RULES[f"frozen+{head}"], problem(name)
    assert attracts(rule, mdp)
    expected = chain(mdp).lstd_rmsve(mdp.features).item() if error is None else error
    assert error_of_fixed_point(rule, mdp) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "head", "error"),
    [
        # Clipped ratios are another policy's: worse than values of 0 here, and no ratio on-policy.
        ("kolter", "vtrace", 1.0064),
        ("random-walk-19", "vtrace", 0),
        # It minimises RMSTDE, of which the walk's own noise is a part.
        ("random-walk-19", "residual", 0.2536),
    ],
)
def test_v_trace_and_the_residual_gradient_have_other_fixed_points(name, head, error):
    rule, mdp = RULES[f"frozen+{head}"], problem(name)
    assert attracts(rule, mdp)
    assert error_of_fixed_point(rule, mdp) == pytest.approx(error, abs=1e-4)


@pytest.fixture
def spiral():
    torch.manual_seed(0)
    module = spiral_body((3,)).double()
    return problem("spiral"), feature_map(module)


def values_at(features, theta):
    return features({"theta": theta}, torch.eye(3, dtype=F64))[:, 0]


def test_the_spirals_values_follow_the_differential_equation_of_the_source(spiral):
    _, features = spiral
    q = torch.tensor([[1, 0.5, 1.5], [1.5, 1, 0.5], [0.5, 1.5, 1]], dtype=F64)
    theta = torch.tensor(0.7, dtype=F64)
    assert values_at(features, 0 * theta).tolist() == list(SPIRAL_START)
    slope = torch.func.jacfwd(lambda each: values_at(features, each))(theta)
    assert torch.allclose(slope, (q + 0.01 * torch.eye(3)) @ values_at(features, theta))


@pytest.mark.parametrize(
    ("rule", "grows"), [("td", True), ("tdrc", True), ("tdc", False), ("residual", False)]
)
def test_values_grow_on_the_spiral_under_td_and_shrink_under_gradient_rules(spiral, rule, grows):
    mdp, features = spiral
    chosen = RULES[rule]
    for theta in (0.0, 1.3, 4.0):
        body = {"theta": torch.tensor(theta, dtype=F64)}
        head = torch.ones(1, dtype=F64)
        values = values_at(features, body["theta"])
        exact = chain(mdp)
        moments = exact.moments(values[:, None])
        # ω at its solution (C + εI)⁻¹b, where a rule has one.
        parameters = Parameters(body, head, {})
        b = moments.b0 - moments.A @ head
        vectors = {}
        for name in chosen.auxiliaries:
            vectors[name] = b / (moments.C + (1.0 if rule == "tdrc" else 0.0)).squeeze()
        parameters = parameters._replace(auxiliary=vectors)
        weights, each = expected_directions(
            chosen, features, parameters, mdp, torch.eye(3, dtype=F64)
        )
        # V's length grows with θ, and directions are subtracted.
        assert (weights @ each.body["theta"] < 0) == grows
