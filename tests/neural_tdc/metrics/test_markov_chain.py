"""The exact quantities of a chain, against sums over single transitions and autograd."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from neural_tdc.metrics.markov_chain import MarkovChain, reachability, stationary_weighting

STATES, ACTIONS, OBSERVATION, HIDDEN, D = 6, 3, 2, 5, 4
DISCOUNT = 0.9
F64 = torch.float64


class Parameters(NamedTuple):
    body: dict[str, Tensor]
    head: Tensor


class Sample(NamedTuple):
    """Every (s, a, s' or end): probability, numbers of s and s', r, γ_t, ρ."""

    probability: Tensor
    state: Tensor
    following: Tensor
    reward: Tensor
    discount: Tensor
    ratio: Tensor


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def shares(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    numbers = torch.rand(*shape, generator=source, dtype=F64) + 0.05
    return numbers / numbers.sum(-1, keepdim=True)


def decision_problem(off_policy):
    """Return a chain and the same thing transition by transition, summed up in plain loops."""
    outcomes = shares(STATES, ACTIONS, STATES + 1, seed=1)
    rewards = normal(STATES, ACTIONS, STATES + 1, seed=2)
    target = shares(STATES, ACTIONS, seed=3)
    behaviour = shares(STATES, ACTIONS, seed=4) if off_policy else target
    start = shares(STATES, seed=5)
    transition, behaved = torch.zeros(2, STATES, STATES, dtype=F64)
    reward = torch.zeros(STATES, dtype=F64)
    for state in range(STATES):
        for action in range(ACTIONS):
            for following in range(STATES + 1):
                p = outcomes[state, action, following]
                reward[state] += target[state, action] * p * rewards[state, action, following]
                if following < STATES:
                    transition[state, following] += target[state, action] * p
                    behaved[state, following] += behaviour[state, action] * p
                else:
                    behaved[state] += behaviour[state, action] * p * start
    weighting = stationary_weighting(behaved)
    rows = [
        (
            weighting[state] * behaviour[state, action] * outcomes[state, action, following],
            state,
            following % STATES,
            rewards[state, action, following],
            DISCOUNT * (following < STATES),
            target[state, action] / behaviour[state, action],
        )
        for state in range(STATES)
        for action in range(ACTIONS)
        for following in range(STATES + 1)
    ]
    columns = [torch.tensor(column, dtype=F64) for column in zip(*rows)]
    sample = Sample(*columns)._replace(state=columns[1].long(), following=columns[2].long())
    return MarkovChain(transition, reward, DISCOUNT, weighting), sample


def body(layers, seed=6):
    sizes = [OBSERVATION, *[HIDDEN] * (layers - 1), D]
    return {
        f"{kind}{layer}": normal(*shape, seed=seed + 10 * layer + column)
        for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes[:-1]))
        for column, (kind, shape) in enumerate([("weight", (rows, columns)), ("bias", (rows,))])
    }


def tanh_features(parameters, observation):
    for layer in range(len(parameters) // 2):
        product = observation @ parameters[f"weight{layer}"].T
        observation = torch.tanh(product + parameters[f"bias{layer}"])
    return observation


def sample_moments(sample, features, head):
    """Return E[ρδφ] and C as averages over single transitions."""
    now, then = features[sample.state], features[sample.following]
    delta = sample.reward + sample.discount * (then @ head) - now @ head
    b = ((sample.probability * sample.ratio * delta)[:, None] * now).sum(0)
    return b, (sample.probability[:, None] * now).T @ now


def half_objective(sample, features, head, epsilon):
    b, C = sample_moments(sample, features, head)
    return b @ torch.linalg.solve(C + epsilon * torch.eye(len(C), dtype=F64), b) / 2


observations = normal(STATES, OBSERVATION, seed=7)
head = normal(D, seed=8)
features = normal(STATES, D, seed=9)
both_policies = pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])


@both_policies
def test_moments_equal_averages_over_single_transitions(off_policy):
    chain, sample = decision_problem(off_policy)
    moments = chain.moments(features)
    b, C = sample_moments(sample, features, head)
    torch.testing.assert_close(moments.b0 - moments.A @ head, b, atol=1e-14, rtol=0)
    torch.testing.assert_close(moments.C, C, atol=1e-14, rtol=0)
    torch.testing.assert_close(chain.neu(features, head), b.square().sum())


def test_value_satisfies_the_bellman_equation():
    chain, _ = decision_problem(True)
    value = chain.value()
    expected = chain.reward + DISCOUNT * chain.transition @ value
    torch.testing.assert_close(value, expected, atol=1e-13, rtol=0)


def test_value_of_two_states_by_hand():
    # From 0 to 1 with reward 2; from 1 back with probability ½ or to the end, reward 4, γ = ½:
    # v₀ = 2 + v₁/2 and v₁ = 4 + v₀/4.
    transition = torch.tensor([[0.0, 1.0], [0.5, 0.0]])
    chain = MarkovChain(transition, torch.tensor([2.0, 4.0]), 0.5, torch.tensor([0.5, 0.5]))
    expected = torch.tensor([32 / 7, 36 / 7], dtype=F64)
    torch.testing.assert_close(chain.value(), expected)


@both_policies
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_gradients_of_half_the_mspbe_equal_autograd(off_policy, layers, epsilon):
    chain, sample = decision_problem(off_policy)
    parameters = Parameters(body(layers), head)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.body.items()}
    theta = head.clone().requires_grad_()
    half_objective(sample, tanh_features(leaves, observations), theta, epsilon).backward()
    body_gradient, head_gradient, omega = chain.mspbe_gradients(
        tanh_features, parameters, observations, epsilon
    )
    assert body_gradient.keys() == leaves.keys()
    for name, leaf in leaves.items():
        torch.testing.assert_close(body_gradient[name], leaf.grad, atol=1e-10, rtol=1e-10)
        assert leaf.grad.abs().max() > 1e-3, name
    torch.testing.assert_close(head_gradient, theta.grad, atol=1e-10, rtol=1e-10)
    b, C = sample_moments(sample, tanh_features(parameters.body, observations), head)
    regularised = C + epsilon * torch.eye(D, dtype=F64)
    torch.testing.assert_close(regularised @ omega, b, atol=1e-10, rtol=0)


@both_policies
@pytest.mark.parametrize("layers", [1, 3])
def test_body_gradient_equals_finite_differences(off_policy, layers):
    chain, _ = decision_problem(off_policy)
    parameters = Parameters(body(layers), head)
    gradient, _, _ = chain.mspbe_gradients(tanh_features, parameters, observations)

    def half(moved):
        return chain.mspbe(tanh_features(moved, observations), head) / 2

    step = 1e-5
    for name, tensor in parameters.body.items():
        direction = normal(*tensor.shape, seed=11)
        ahead = half({**parameters.body, name: tensor + step * direction})
        behind = half({**parameters.body, name: tensor - step * direction})
        slope = (gradient[name] * direction).sum()
        assert (ahead - behind) / (2 * step) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


@both_policies
def test_gradients_equal_autograd_of_the_saddle_form_at_the_auxiliary_solution(off_policy):
    chain, sample = decision_problem(off_policy)
    parameters = Parameters(body(1), head)
    gradient, head_gradient, omega = chain.mspbe_gradients(tanh_features, parameters, observations)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.body.items()}
    theta = head.clone().requires_grad_()
    made = tanh_features(leaves, observations)
    now, then = made[sample.state], made[sample.following]
    delta = sample.reward + sample.discount * (then @ theta) - now @ theta
    correction = now @ omega
    saddle = sample.ratio * delta * correction - correction.square() / 2
    height = (sample.probability * saddle).sum()
    torch.testing.assert_close(2 * height, chain.mspbe(made.detach(), head))
    height.backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(gradient[name], leaf.grad, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(head_gradient, theta.grad, atol=1e-12, rtol=1e-10)


def test_gradients_hold_where_a_feature_stands_twice():
    # The rank of C stays below d along these parameters: no ε is needed.
    chain, _ = decision_problem(True)

    def doubled(parameters, observation):
        made = tanh_features(parameters, observation)
        return torch.cat([made, made[:, :1]], 1)

    single, longer = body(1), torch.cat([head, torch.zeros(1, dtype=F64)])
    gradient, _, _ = chain.mspbe_gradients(doubled, Parameters(single, longer), observations)
    plain, _, _ = chain.mspbe_gradients(tanh_features, Parameters(single, head), observations)
    for name, expected in plain.items():
        torch.testing.assert_close(gradient[name], expected, atol=1e-10, rtol=1e-8)


def test_gradients_keep_the_precision_of_the_body():
    chain, _ = decision_problem(True)
    single = Parameters({name: t.float() for name, t in body(3).items()}, head.float())
    found, head_gradient, omega = chain.mspbe_gradients(tanh_features, single, observations.float())
    exact, _, _ = chain.mspbe_gradients(tanh_features, Parameters(body(3), head), observations)
    assert head_gradient.dtype == omega.dtype == F64
    for name, expected in exact.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), expected, atol=1e-3, rtol=1e-3)


def test_given_features_have_no_body_gradient():
    chain, _ = decision_problem(True)
    gradient, head_gradient, omega = chain.mspbe_gradients(
        lambda body, observation: observation, Parameters({}, head), features
    )
    assert gradient == {}
    moments = chain.moments(features)
    torch.testing.assert_close(head_gradient, -moments.A.T @ omega)


@both_policies
def test_hessian_in_the_head_is_a_transposed_c_inverse_a(off_policy):
    chain, sample = decision_problem(off_policy)
    moments = chain.moments(features)
    hessian = torch.autograd.functional.hessian(
        lambda theta: half_objective(sample, features, theta, 0.0), head
    )
    expected = moments.A.T @ torch.linalg.solve(moments.C, moments.A)
    torch.testing.assert_close(hessian, expected, atol=1e-12, rtol=1e-10)


def test_on_policy_curvature_is_bounded_below_by_the_discount():
    chain, _ = decision_problem(False)
    moments = chain.moments(features)
    hessian = moments.A.T @ torch.linalg.solve(moments.C, moments.A)
    bound = (1 - DISCOUNT) ** 2 * torch.linalg.eigvalsh(moments.C)[0]
    assert torch.linalg.eigvalsh(hessian)[0] > bound > 0


@both_policies
def test_the_best_response_makes_the_mspbe_zero_for_every_body(off_policy):
    chain, _ = decision_problem(off_policy)
    for seed in (20, 40):
        made = tanh_features(body(1, seed=seed), observations)
        best = chain.td_fixed_point(made)
        assert chain.mspbe(made, best) < 1e-20
        assert chain.mspbe(made, head) > 1e-3


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_best_response_with_a_ridge_in_closed_form(ridge):
    chain, _ = decision_problem(True)
    A, b0, C = chain.moments(features)
    hessian = A.T @ torch.linalg.solve(C, A) + ridge * torch.eye(D, dtype=F64)
    best = torch.linalg.solve(hessian, A.T @ torch.linalg.solve(C, b0))
    lowest = chain.mspbe(features, best) / 2 + ridge / 2 * best.square().sum()
    expected = b0 @ torch.linalg.solve(C + A @ A.T / ridge, b0) / 2
    torch.testing.assert_close(lowest, expected, atol=1e-13, rtol=1e-10)


def test_a_singular_fixed_point_is_announced():
    chain, _ = decision_problem(True)
    doubled = torch.cat([features, features[:, :1]], 1)
    with pytest.warns(UserWarning, match="A is singular"):
        fixed_point = chain.td_fixed_point(doubled)
    values = features @ chain.td_fixed_point(features)
    torch.testing.assert_close(doubled @ fixed_point, values, atol=1e-9, rtol=0)


def test_errors_equal_their_definitions():
    chain, _ = decision_problem(True)
    values, d = features @ head, chain.weighting
    value = torch.linalg.inv(torch.eye(STATES) - DISCOUNT * chain.transition) @ chain.reward
    backed_up = chain.reward + DISCOUNT * chain.transition @ values

    def size(difference):
        return sum(float(d[s] * difference[s] ** 2) for s in range(STATES)) ** 0.5

    assert chain.rmsve(features, head) == pytest.approx(size(values - value))
    assert chain.rmsbe(features, head) == pytest.approx(size(backed_up - values))
    fixed_point = chain.td_fixed_point(features)
    assert chain.lstd_rmsve(features) == pytest.approx(size(features @ fixed_point - value))
    root = d.sqrt()[:, None]
    best = torch.linalg.lstsq(root * features, root * value[:, None]).solution[:, 0]
    assert chain.best_linear_rmsve(features) == pytest.approx(size(features @ best - value))
    assert chain.best_linear_rmsve(features) < chain.lstd_rmsve(features)


def test_the_mspbe_is_below_the_squared_bellman_error_and_equal_for_tabular_features():
    chain, _ = decision_problem(True)
    assert chain.mspbe(features, head).sqrt() < chain.rmsbe(features, head)
    tabular, values = torch.eye(STATES, dtype=F64), normal(STATES, seed=12)
    torch.testing.assert_close(chain.mspbe(tabular, values).sqrt(), chain.rmsbe(tabular, values))
    assert chain.lstd_rmsve(tabular) < 1e-13


def test_errors_of_many_runs_by_vmap():
    chain, _ = decision_problem(True)
    many, heads = normal(3, STATES, D, seed=13), normal(3, D, seed=14)
    for method in (chain.mspbe, chain.rmsve, chain.rmsbe, chain.neu):
        alone = torch.stack([method(*run) for run in zip(many, heads)])
        torch.testing.assert_close(torch.vmap(method)(many, heads), alone)
    for method in (chain.lstd_rmsve, chain.best_linear_rmsve):
        alone = torch.stack([method(run) for run in many])
        torch.testing.assert_close(torch.vmap(method)(many), alone)


def test_the_gradients_of_many_runs_by_vmap():
    chain, _ = decision_problem(True)
    runs = [Parameters(body(1, seed=seed), normal(D, seed=seed)) for seed in (20, 40, 60)]
    stacked = torch.utils._pytree.tree_map(lambda *leaves: torch.stack(leaves), *runs)
    found = torch.vmap(lambda run: chain.mspbe_gradients(tanh_features, run, observations))(stacked)
    alone = [chain.mspbe_gradients(tanh_features, run, observations) for run in runs]
    for name in runs[0].body:
        expected = torch.stack([gradient[name] for gradient, _, _ in alone])
        torch.testing.assert_close(found[0][name], expected)
    torch.testing.assert_close(found[1], torch.stack([gradient for _, gradient, _ in alone]))


def test_features_in_single_precision_are_judged_in_double():
    chain, _ = decision_problem(True)
    assert chain.mspbe(features.float(), head.float()).dtype == F64
    expected = float(chain.mspbe(features, head))
    assert chain.mspbe(features.float(), head.float()) == pytest.approx(expected, rel=1e-4)


def test_reachability_follows_paths_of_any_length():
    states = 11
    transition = torch.zeros(states, states, dtype=F64)
    transition[range(states - 1), range(1, states)] = 1
    assert torch.equal(reachability(transition), torch.ones(states, states).triu().bool())


def test_stationary_weighting_of_a_periodic_chain_with_a_transient_state_by_hand():
    # 2 leads to 0; 0 and 1 alternate for ever.
    transition = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]], dtype=F64)
    expected = torch.tensor([0.5, 0.5, 0.0], dtype=F64)
    torch.testing.assert_close(stationary_weighting(transition), expected)


def test_stationary_weighting_reproduces_itself():
    transition = shares(STATES, STATES, seed=15)
    weighting = stationary_weighting(transition)
    torch.testing.assert_close(weighting @ transition, weighting, atol=1e-15, rtol=0)
    assert weighting.sum() == pytest.approx(1, abs=1e-14)


def test_two_closed_sets_of_states_are_refused_unless_the_start_decides():
    transition = torch.eye(3, dtype=F64)
    transition[1] = torch.tensor([0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="around state 0 or around state 2"):
        stationary_weighting(transition)
    with pytest.raises(ValueError, match="no single stationary distribution"):
        stationary_weighting(transition, torch.tensor([0.0, 1.0, 0.0], dtype=F64))
    start = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    assert stationary_weighting(transition, start).tolist() == [0, 0, 1]


def test_a_row_that_misses_one_has_no_stationary_weighting():
    with pytest.raises(ValueError, match=r"row 1 of transition sums to 0\.9, but must sum to 1"):
        stationary_weighting(torch.tensor([[0.5, 0.5], [0.5, 0.4]], dtype=F64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": [[0.5, 0.6], [0, 1]]}, "row 0 of transition sums to 1.1"),
        ({"transition": [[1.1, -0.1], [0, 1]]}, "from state 0 to state 1 .* -0.1"),
        ({"transition": [[float("nan"), 0], [0, 1]]}, "transition holds .* not finite"),
        ({"transition": [[0.5, 0.5]]}, "square"),
        ({"reward": [1.0, 2.0, 3.0]}, r"reward must have shape \(2,\)"),
        ({"reward": [1.0, float("inf")]}, "reward holds"),
        ({"weighting": [0.5, 0.4]}, "weighting sums to 0.9"),
        ({"weighting": [-0.5, 1.5]}, "weighting of state 0 is negative"),
        ({"discount": 1.1}, "discount is 1.1"),
        ({"discount": -0.1}, "discount is -0.1"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"discount": 1.0}, "never ends from state 0"),
    ],
)
def test_what_is_no_markov_chain_is_refused_in_one_line(changes, message):
    given = {"transition": [[0.5, 0.5], [0, 1]], "reward": [1.0, 2.0], "weighting": [0.5, 0.5]}
    tables = {
        name: torch.tensor(changes.get(name, table), dtype=F64) for name, table in given.items()
    }
    with pytest.raises(ValueError, match=message) as caught:
        MarkovChain(**tables, discount=changes.get("discount", 0.9))
    assert "\n" not in str(caught.value)


def test_a_discount_of_one_is_allowed_where_an_end_is_reached_in_the_end():
    transition = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    chain = MarkovChain(transition, torch.tensor([0.0, 1.0]), 1.0, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(chain.value(), torch.tensor([2.0, 2.0], dtype=F64))
