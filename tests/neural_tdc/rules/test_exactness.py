"""Sampled directions, averaged over all that can happen, are the exact gradients of the chain."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain, finite_mdp
from envs.finite.standard_problems import garnet, problem
from envs.finite.streams import exact_transitions, simulate_streams
from neural_tdc.metrics.value_errors import auxiliary_solution
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.rules.emphatic import emphasis_after
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

F64 = torch.float64
WALKS = ["random-walk-tabular", "random-walk-dependent", "random-walk-inverted"]
PROBLEMS = ["garnet", "garnet-off-policy", *WALKS, "boyan"]
BODIES = {"one layer": (), "three layers": (7, 6)}


def neural(mdp, hidden, seed=0):
    """Make a body of fewer features than states, and a head, none of them at rest."""
    width = mdp.width
    torch.manual_seed(seed)
    module = mlp(tuple(mdp.observation.shape[1:]), width, hidden).double()
    body = {name: 2 * p.detach() for name, p in module.named_parameters()}
    head = torch.randn(width, dtype=F64)
    return feature_map(module), Parameters(body, head, {})


def looked_up(transitions, table):
    return transitions._replace(
        observation=table[transitions.observation],
        next_observation=table[transitions.next_observation],
    )


def expected(rule, features, parameters, mdp, table):
    """Return the mean of the rule's directions over all transitions, by their probabilities."""
    transitions, weights = exact_transitions(mdp)
    # Each transition is a batch of its own, since batches are plain means.
    transitions = looked_up(transitions, table)._replace(first=torch.zeros_like(weights))
    single = Transition(*(leaf[:, None] for leaf in transitions))
    directions = torch.vmap(lambda batch: rule.directions(features, parameters, batch))(single)
    return Parameters(
        *(tree_map(lambda leaf: torch.tensordot(weights, leaf, 1), part) for part in directions)
    )


def vector(tree):
    return torch.cat([tree[name].flatten() for name in sorted(tree)])


def norm(tree):
    """Return the norm of all leaves of a tree, 0 for none."""
    return torch.cat([torch.zeros(1), *tree_leaves(tree)]).norm()


def relative_error(left, right):
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("hidden", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("name", PROBLEMS)
def test_averaged_directions_at_omega_star_are_the_exact_gradients(name, hidden):
    mdp = problem(name)
    features, parameters = neural(mdp, hidden)
    body, head, omega = chain(mdp).mspbe_gradients(features, parameters, mdp.observation)
    parameters = parameters._replace(auxiliary={"tdc": omega})
    for rule in (RULES["gtd2"], RULES["tdc"]):
        mean = expected(rule, features, parameters, mdp, mdp.observation)
        assert relative_error(vector(mean.body), vector(body)) < 1e-12
        assert relative_error(mean.head, head) < 1e-12
        # ω* is at rest: what is left is rounding of terms of the size of ω.
        assert float(mean.auxiliary["tdc"].norm()) < 1e-12 * max(1.0, float(omega.norm()))


@pytest.mark.parametrize("name", ["garnet-off-policy", "random-walk-dependent", "boyan"])
def test_with_epsilon_the_averages_are_the_gradients_of_the_regularised_error(name):
    epsilon = 0.05
    mdp = problem(name)
    features, parameters = neural(mdp, (7,))
    body, head, omega = chain(mdp).mspbe_gradients(features, parameters, mdp.observation, epsilon)
    parameters = parameters._replace(auxiliary={"tdc": omega})
    for form in ("gtd2", "tdc"):
        rule = RULES[form].with_settings(epsilon=epsilon)
        mean = expected(rule, features, parameters, mdp, mdp.observation)
        assert relative_error(vector(mean.body), vector(body)) < 1e-12
        assert relative_error(mean.head, head) < 1e-12
        assert float(mean.auxiliary["tdc"].norm()) < 1e-12 * max(1.0, float(omega.norm()))


def test_away_from_omega_star_the_averages_are_other_ones():
    mdp = problem("garnet-off-policy")
    features, parameters = neural(mdp, ())
    body, head, omega = chain(mdp).mspbe_gradients(features, parameters, mdp.observation)
    parameters = parameters._replace(auxiliary={"tdc": 1.1 * omega})
    mean = expected(RULES["tdc"], features, parameters, mdp, mdp.observation)
    assert relative_error(vector(mean.body), vector(body)) > 1e-2
    assert relative_error(mean.head, head) > 1e-2


@pytest.mark.parametrize("name", ["garnet-off-policy", "random-walk-inverted", "boyan"])
def test_with_all_states_as_psi_the_generalized_average_is_the_gradient_of_the_bellman_error(name):
    mdp = problem(name)
    mdp = mdp._replace(observation=torch.eye(len(mdp.start), dtype=F64))
    features, parameters = neural(mdp, (7,))
    rule = RULES["generalized"].with_settings(psi="observation")
    parameters, state = rule.init(parameters, mdp.observation, torch.Generator())
    c = chain(mdp)

    def half_bellman_error(body, head):
        values = features(body, mdp.observation) @ head
        residual = c.reward + c.discount * c.transition @ values - values
        return 0.5 * (c.weighting * residual.square()).sum()

    body, head = torch.func.grad(half_bellman_error, argnums=(0, 1))(*parameters[:2])
    values = features(parameters.body, mdp.observation) @ parameters.head
    residual = c.reward + c.discount * c.transition @ values - values
    parameters = parameters._replace(auxiliary={"generalized": residual})

    class WithPsi:
        """The same rule with its state at hand."""

        def directions(self, features, parameters, batch):
            return rule.directions(features, parameters, batch, state)

    mean = expected(WithPsi(), features, parameters, mdp, mdp.observation)
    assert relative_error(vector(mean.body), vector(body)) < 1e-12
    assert relative_error(mean.head, head) < 1e-12
    assert float(mean.auxiliary["generalized"].norm()) < 1e-12 * float(residual.norm())


# --- where the rules come to rest, on given features


def given(mdp, head=None):
    width = mdp.features.shape[1]
    head = torch.zeros(width, dtype=F64) if head is None else head
    zero = torch.zeros(width, dtype=F64)
    return Parameters({}, head, dict.fromkeys(("tdc", "tdrc", "htd"), zero))


def at_rest(rule, mdp, head):
    """Return the norm of the rule's expected head direction, relative to that from 0."""
    mean, start = (
        expected(rule, given_features, given(mdp, theta), mdp, mdp.features).head.norm()
        for theta in (head, torch.zeros_like(head))
    )
    return float(mean / start)


LINEAR = ["garnet-off-policy", "random-walk-dependent", "boyan"]


@pytest.mark.parametrize("head", ["td", "tdc", "gtd2", "tdrc", "htd"])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_rule_is_at_rest_at_the_td_fixed_point(name, head):
    mdp = problem(name)
    fixed_point = chain(mdp).td_fixed_point(mdp.features)
    rule = RULES[head].with_given_features()
    mean = expected(rule, given_features, given(mdp, fixed_point), mdp, mdp.features)
    scale = chain(mdp).moments(mdp.features).b0.norm()
    assert float(mean.head.norm() / scale) < 1e-10
    assert float(norm(mean.auxiliary) / scale) < 1e-10
    # GTD2's head waits for ω: that one of the two moves is what tells the place from others.
    elsewhere = given(mdp, 1.1 * fixed_point)
    moved = expected(rule, given_features, elsewhere, mdp, mdp.features)
    assert float((moved.head.norm() + norm(moved.auxiliary)) / scale) > 1e-3


def v_trace_fixed_point(mdp):
    """Solve E[min(1, ρ)δφ] = 0 by sums over states and actions, written out."""
    c = chain(mdp)
    states, actions = mdp.target.shape
    size = mdp.features.shape[1]
    A, b = torch.zeros(size, size, dtype=F64), torch.zeros(size, dtype=F64)
    for s in range(states):
        for a in range(actions):
            # d(s) b(a|s) min(1, π/b) = d(s) min(b, π)
            weight = c.weighting[s] * min(mdp.behaviour[s, a], mdp.target[s, a])
            phi = mdp.features[s]
            following = mdp.discount * mdp.transition[s, a] @ mdp.features
            reward = mdp.transition[s, a] @ mdp.reward[s, a]
            reward = reward + mdp.termination[s, a] * mdp.terminal_reward[s, a]
            A += weight * torch.outer(phi, phi - following)
            b += weight * reward * phi
    return torch.linalg.solve(A, b)


@pytest.mark.parametrize("name", ["random-walk-tabular", "random-walk-dependent"])
def test_v_trace_comes_to_rest_somewhere_else(name):
    mdp = problem(name)
    rule = RULES["vtrace"].with_given_features()
    fixed_point = chain(mdp).td_fixed_point(mdp.features)
    clipped = v_trace_fixed_point(mdp)
    assert at_rest(rule, mdp, clipped) < 1e-12
    assert at_rest(rule, mdp, fixed_point) > 0.05
    assert float((clipped - fixed_point).norm()) > 0.1


def test_on_policy_v_trace_is_td():
    mdp = problem("boyan")
    assert (
        at_rest(RULES["vtrace"].with_given_features(), mdp, chain(mdp).td_fixed_point(mdp.features))
        < 1e-12
    )


def follow_on(mdp):
    """Return f = (I − γPᵀ)⁻¹d, the expected emphasis of a state times how often it is seen."""
    c = chain(mdp)
    return torch.linalg.solve(
        torch.eye(len(mdp.start), dtype=F64) - c.discount * c.transition.T, c.weighting
    )


def small_chain():
    """Make a chain of three states with an end, whose emphasis has a small variance."""
    return finite_mdp(
        transition=[
            [[0.0, 0.7, 0.1], [0.3, 0.0, 0.7]],
            [[0.5, 0.0, 0.5], [0.0, 0.2, 0.6]],
            [[0.4, 0.0, 0.0], [0.1, 0.8, 0.0]],
        ],
        reward=[
            [[0, 1.0, 0], [2.0, 0, -1]],
            [[0, 0, 3.0], [1, 1, 1.0]],
            [[1.0, 0, 0], [0, 2, 0.0]],
        ],
        discount=0.8,
        termination=[[0.2, 0.0], [0.0, 0.2], [0.6, 0.1]],
        terminal_reward=[[1.0, 0], [0, -2.0], [0.5, 1.0]],
        start=[0.5, 0.5, 0.0],
        target=[[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]],
        behaviour=[[0.5, 0.5], [0.5, 0.5], [0.4, 0.6]],
        features=[[1.0, 0.2], [0.3, 1.0], [-0.5, 0.8]],
    )


def test_emphatic_td_comes_to_rest_at_the_emphatic_fixed_point():
    mdp = small_chain()
    c, emphasis = chain(mdp), follow_on(mdp)
    phi = mdp.features
    identity = torch.eye(3, dtype=F64)
    A = phi.T @ torch.diag(emphasis) @ (identity - c.discount * c.transition) @ phi
    fixed_point = torch.linalg.solve(A, phi.T @ (emphasis * c.reward))
    td = c.td_fixed_point(phi)
    assert float((fixed_point - td).norm()) > 0.05

    streams, length, burn_in = 400, 300, 40
    seen = simulate_streams(mdp, streams, length, seed=0, dtype=F64)
    many = torch.vmap(emphasis_after)
    trace = {
        "emphasis": torch.ones(streams, 1).double(),
        "carried": torch.zeros(streams, 1).double(),
    }
    traced = []
    for time in range(length):
        trace = many(trace, Transition(*(leaf[:, time : time + 1] for leaf in seen)))
        traced.append(trace["emphasis"])
    F = torch.cat(traced, 1)[:, burn_in:]
    seen = Transition(*(leaf[:, burn_in:] for leaf in seen))

    # The emphasis itself, state by state.
    for state in range(3):
        share = (F * (seen.observation == state)).mean(1)
        error = float(share.std() / streams**0.5)
        assert abs(float(share.mean() - emphasis[state])) < 5 * error
        assert error < 0.05 * float(emphasis[state])

    def z_score(head):
        """Return the largest mean direction over streams, in its own standard errors."""
        values = phi @ head
        delta = seen.reward + seen.discount * values[seen.next_observation]
        delta = delta - values[seen.observation]
        direction = ((F * seen.ratio * delta)[..., None] * phi[seen.observation]).mean(1)
        return float((direction.mean(0).abs() / (direction.std(0) / streams**0.5)).max())

    assert z_score(fixed_point) < 4
    assert z_score(td) > 10


def test_the_rule_itself_weighs_td_by_the_emphasis():
    # The simulation above uses the trace alone: this ties the rule's direction to it.
    mdp = small_chain()
    rule = RULES["etd"].with_given_features()
    head = torch.tensor([0.7, -0.4], dtype=F64)
    seen = looked_up(simulate_streams(mdp, 1, 30, seed=1, dtype=F64), mdp.features)
    parameters, state = rule.init(given(mdp, head), mdp.features, torch.Generator())
    F = carried = 0.0
    for time in range(30):
        batch = Transition(*(leaf[0, time : time + 1] for leaf in seen))
        F = 1 + (0.0 if batch.first.item() else carried * F)
        carried = batch.discount.item() * batch.ratio.item()
        state = rule.update(given_features, parameters, batch, state)
        direction = rule.directions(given_features, parameters, batch, state).head
        delta = batch.reward + batch.discount * batch.next_observation @ head
        delta = delta - batch.observation @ head
        assert torch.allclose(
            direction, -F * batch.ratio * delta * batch.observation[0], rtol=1e-12
        )


def test_algorithm_1_stands_still_at_the_td_fixed_point_whatever_the_features_are():
    mdp = garnet(states=9, actions=2, branching=3, seed=4, off_policy=True, feature_count=5)
    features, parameters = neural(mdp, (7,))
    c = chain(mdp)
    phi = features(parameters.body, mdp.observation)
    moments = c.moments(phi)
    fixed_point = c.td_fixed_point(phi)
    omega = auxiliary_solution(moments, fixed_point)
    parameters = parameters._replace(head=fixed_point, auxiliary={"tdc": omega})
    mean = expected(RULES["tdc"], features, parameters, mdp, mdp.observation)
    assert float(omega.norm()) < 1e-10
    assert max(float(leaf.abs().max()) for leaf in tree_leaves(mean)) < 1e-10
    td = expected(RULES["td"], features, parameters, mdp, mdp.observation)
    assert max(float(leaf.abs().max()) for leaf in tree_leaves(td.body)) > 1e-3
