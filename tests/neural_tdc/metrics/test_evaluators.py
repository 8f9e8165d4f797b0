"""Evaluators measure what the exact chain measures, for all runs at once."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import exact_transitions, rmstde, simulate_streams
from neural_tdc.metrics import parts_of_runs
from neural_tdc.metrics.evaluators import (
    Truth,
    chain_evaluator,
    sample_evaluator,
)
from neural_tdc.metrics.samples import in_rows
from neural_tdc.metrics.value_errors import auxiliary_solution
from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Parameters, Transition

F64 = torch.float64
RUNS, FEATURE = 4, 3
# Metrics for which it matters which transitions are neighbours.
OF_THE_ORDER = {"error/rmspbe", "noise/rmspbe_floor"}
# Metrics of a truth whose states are a sample.
OF_STATES = {f"noise/{error}_states" for error in ("rmsve", "lstd_rmsve", "best_linear_rmsve")}


def neural(mdp):
    """Make a population of bodies, heads and auxiliary vectors in float64."""
    shape = tuple(mdp.observation.shape[1:])
    module, bodies = initial_bodies(lambda shape: mlp(shape, FEATURE, (6,)), shape, 0, RUNS)
    g = torch.Generator().manual_seed(1)
    return feature_map(module), Parameters(
        {name: 2 * tensor.double() for name, tensor in bodies.items()},
        torch.randn(RUNS, FEATURE, generator=g, dtype=F64),
        dict.fromkeys(("tdc", "tdrc"), torch.randn(RUNS, FEATURE, generator=g, dtype=F64)),
    )


def of_run(parameters, run):
    return tree_map(lambda leaf: leaf[run], parameters)


def looked_up(transitions, table):
    return transitions._replace(
        observation=table[transitions.observation],
        next_observation=table[transitions.next_observation],
    )


@pytest.mark.parametrize("name", ["garnet-off-policy", "random-walk-dependent", "boyan"])
def test_the_evaluator_of_a_chain_gives_the_chains_own_quantities(name):
    mdp = problem(name)
    c = chain(mdp)
    features, parameters = neural(mdp)
    values = chain_evaluator(c, mdp.observation, features, RULES["tdc"])(parameters)
    for run in range(RUNS):
        one = of_run(parameters, run)
        phi = features(one.body, mdp.observation)
        moments = c.moments(phi)
        fixed_point, omega = c.td_fixed_point(phi), auxiliary_solution(moments, one.head)
        lag = c.weighting.sqrt() * (phi @ (one.head - fixed_point))
        behind = c.weighting.sqrt() * (phi @ (one.auxiliary["tdc"] - omega))
        expected = {
            "error/rmsve": c.rmsve(phi, one.head),
            "error/rmspbe": c.mspbe(phi, one.head).sqrt(),
            "error/lstd_rmsve": c.rmsve(phi, fixed_point),
            "error/best_linear_rmsve": c.best_linear_rmsve(phi),
            "tracking_error/head": lag.norm(),
            "tracking_error/auxiliary": behind.norm(),
            "tracking_error/auxiliary_size": (c.weighting.sqrt() * (phi @ omega)).norm(),
            "features/smallest_eigenvalue": torch.linalg.eigvalsh(moments.C)[0],
            "norm/head": one.head.norm(),
            "norm/auxiliary": 2**0.5 * one.auxiliary["tdc"].norm(),
            "norm/body": torch.cat([t.flatten() for t in one.body.values()]).norm(),
        }
        assert set(values) == {*expected, "features/effective_rank"}
        for key, value in expected.items():
            assert float(values[key][run]) == pytest.approx(float(value), rel=1e-8, abs=1e-12)
        assert 1 <= float(values["features/effective_rank"][run]) <= FEATURE


@pytest.mark.parametrize(
    ("rule", "regulariser"),
    [
        (RULES["tdc"], 0.0),
        (RULES["tdc"].with_settings(epsilon=0.2), 0.2),
        (RULES["tdrc"], 1.0),
        (RULES["tdrc"].with_settings(epsilon=0.2, kappa=0.5), 0.7),
        (RULES["gtd2"], 0.0),
    ],
)
def test_the_auxiliary_lag_is_measured_from_where_the_rule_will_settle(rule, regulariser):
    mdp = problem("random-walk-dependent")
    c = chain(mdp)
    head = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    moments = c.moments(mdp.features)
    omega = torch.linalg.solve(
        moments.C + regulariser * torch.eye(3, dtype=F64), moments.b0 - moments.A @ head
    )
    evaluator = chain_evaluator(c, mdp.features, given_features, rule.with_given_features())
    (name,) = rule.auxiliaries
    values = evaluator(Parameters({}, head[None], {name: omega[None]}))
    assert float(values["tracking_error/auxiliary"]) < 1e-12
    assert float(values["tracking_error/auxiliary_size"]) > 0.01
    values = evaluator(Parameters({}, head[None], {name: 1.5 * omega[None]}))
    expected = 0.5 * float(values["tracking_error/auxiliary_size"])
    assert float(values["tracking_error/auxiliary"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rule", ["td", "htd", "residual", "vtrace", "etd"])
def test_a_rule_without_omega_has_no_auxiliary_lag(rule):
    mdp = problem("random-walk-dependent")
    evaluator = chain_evaluator(
        chain(mdp), mdp.features, given_features, RULES[rule].with_given_features()
    )
    width = 3 if rule == "htd" else 0
    vectors = {name: torch.ones(2, 3, dtype=F64) for name in RULES[rule].auxiliaries}
    one = Parameters({}, torch.ones(2, 3, dtype=F64), vectors)
    values = evaluator(one)
    assert not any(key.startswith("tracking_error/auxiliary") for key in values)
    assert values["norm/auxiliary"].tolist() == pytest.approx([width**0.5] * 2)


def test_a_rule_of_the_users_own_needs_no_omega():
    class Own(Rule):
        name = "own"

    mdp = problem("random-walk-dependent")
    evaluator = chain_evaluator(chain(mdp), mdp.features, given_features, Own())
    values = evaluator(Parameters({}, torch.ones(2, 3, dtype=F64), {}))
    assert "tracking_error/auxiliary" not in values
    assert values["error/rmsve"].shape == (2,)


def walk_as_a_sample():
    """Return the random walk as a sample that holds each transition as often as it happens.

    The weighting is (1, 2, 3, 2, 1)/9 and the behaviour (½, ½): 18 transitions are exact.
    """
    mdp = problem("random-walk-dependent")
    transitions, weights = exact_transitions(mdp)
    times = (18 * weights).round().long()
    assert int(times.sum()) == 18
    sample = Transition(*(leaf.repeat_interleave(times, 0) for leaf in transitions[:5]))
    return mdp, looked_up(sample, mdp.observation)


def test_on_a_sample_that_is_exact_the_sample_evaluator_is_the_chains():
    mdp, sample = walk_as_a_sample()
    c = chain(mdp)
    features, parameters = neural(mdp)
    truth = Truth(mdp.observation, c.weighting, c.value(), 0.0)
    exact = chain_evaluator(c, mdp.observation, features, RULES["tdc"])(parameters)
    values = sample_evaluator(in_rows(sample), truth, features, RULES["tdc"])(parameters)
    assert set(values) == {*exact, "error/rmstde", "noise/rmspbe_floor", *OF_STATES}
    # A sample does not know that it is exact: its bias is subtracted.
    assert bool((values["error/rmspbe"] < exact.pop("error/rmspbe")).all())
    name = "error/best_linear_rmsve"
    assert bool((values[name] > exact.pop(name)).all())
    for key, value in exact.items():
        assert torch.allclose(values[key], value, rtol=1e-9, atol=1e-12)
    for run in range(RUNS):
        one = of_run(parameters, run)
        expected = rmstde(mdp, features(one.body, mdp.observation), one.head)
        assert float(values["error/rmstde"][run]) == pytest.approx(float(expected), rel=1e-12)


def test_a_large_sample_approaches_the_chain():
    mdp = problem("random-walk-dependent")
    c = chain(mdp)
    features, parameters = neural(mdp)
    seen = simulate_streams(mdp, 20, 3000, seed=0, dtype=F64)
    sample = Transition(*(leaf.flatten(0, 1) for leaf in looked_up(seen, mdp.observation)))
    truth = Truth(mdp.observation, c.weighting, c.value(), 0.0)
    exact = chain_evaluator(c, mdp.observation, features, RULES["tdc"])(parameters)
    values = sample_evaluator(in_rows(sample), truth, features, RULES["tdc"])(parameters)
    for key in ("error/rmspbe", "tracking_error/auxiliary_size", "features/effective_rank"):
        assert torch.allclose(values[key], exact[key], rtol=0.05)
        assert not torch.allclose(values[key], exact[key], rtol=1e-6)


def test_without_the_truth_what_needs_it_is_left_out_and_the_rest_is_the_same():
    mdp, sample = walk_as_a_sample()
    c = chain(mdp)
    features, parameters = neural(mdp)
    truth = Truth(mdp.observation, c.weighting, c.value(), 0.0)
    known = sample_evaluator(in_rows(sample), truth, features, RULES["tdc"])(parameters)
    unknown = sample_evaluator(in_rows(sample), None, features, RULES["tdc"])(parameters)
    left_out = {"error/rmsve", "error/lstd_rmsve", "error/best_linear_rmsve"} | OF_STATES
    assert set(unknown) == set(known) - left_out
    for key, value in unknown.items():
        assert torch.allclose(value, known[key], rtol=1e-12, atol=1e-15)


def test_the_square_of_the_truths_own_error_is_subtracted():
    mdp, sample = walk_as_a_sample()
    c = chain(mdp)
    features, parameters = neural(mdp)

    def rmsve(squared_error):
        truth = Truth(mdp.observation, c.weighting, c.value(), squared_error)
        return sample_evaluator(in_rows(sample), truth, features, RULES["td"])(parameters)[
            "error/rmsve"
        ]

    assert torch.allclose(rmsve(0.01) ** 2, rmsve(0.0) ** 2 - 0.01, rtol=1e-12)
    assert rmsve(1e6).tolist() == [0.0] * RUNS


def test_features_in_single_precision_are_measured_in_double():
    mdp, sample = walk_as_a_sample()
    c = chain(mdp)
    features, parameters = neural(mdp)
    kinds = []

    def watched(body, observation):
        found = features(body, observation)
        kinds.append(found.dtype)
        return found

    truth = Truth(mdp.observation, c.weighting, c.value(), 0.0)
    single_truth = Truth(*(leaf.float() for leaf in truth[:3]), 0.0)
    single = Transition(*(leaf.float() for leaf in sample[:5]))
    values = sample_evaluator(in_rows(single), single_truth, watched, RULES["tdc"])(parameters)
    exact = sample_evaluator(in_rows(sample), truth, features, RULES["tdc"])(parameters)
    assert {value.dtype for value in values.values()} == {F64}
    assert set(kinds) == {torch.float32}
    for key, value in values.items():
        assert torch.allclose(value, exact[key], rtol=1e-5), key
    chains, doubled = (
        chain_evaluator(c, table, features, RULES["tdc"])(parameters)["error/rmspbe"]
        for table in (mdp.observation.float(), mdp.observation)
    )
    assert torch.allclose(chains, doubled, rtol=1e-9)


@pytest.mark.parametrize("rule", ["tdc", "tdrc", "td"])
def test_a_run_of_zeros_is_measured_without_a_nan(rule):
    mdp, sample = walk_as_a_sample()
    c = chain(mdp)
    features, parameters = neural(mdp)
    kept = {name: parameters.auxiliary[name] for name in RULES[rule].auxiliaries}
    parameters = parameters._replace(auxiliary=kept)
    zero = tree_map(torch.clone, parameters)
    for tensor in tree_leaves(zero):
        tensor[1] = 0
    truth = Truth(mdp.observation, c.weighting, c.value(), 0.0)
    for evaluator in (
        chain_evaluator(c, mdp.observation, features, RULES[rule]),
        sample_evaluator(in_rows(sample), truth, features, RULES[rule]),
        sample_evaluator(in_rows(sample), None, features, RULES[rule]),
    ):
        values, before = evaluator(zero), evaluator(parameters)
        for key, value in values.items():
            assert bool(value.isfinite().all()), key
            assert torch.equal(value[[0, 2, 3]], before[key][[0, 2, 3]])
        if "error/rmsve" in values:
            # V = 0, whose error is the size of v itself.
            size = (c.weighting * c.value().square()).sum().sqrt()
            assert float(values["error/rmsve"][1]) == pytest.approx(float(size), rel=1e-12)


def test_measuring_part_by_part_gives_the_same(monkeypatch):
    mdp, sample = walk_as_a_sample()
    features, parameters = neural(mdp)
    evaluator = sample_evaluator(in_rows(sample), None, features, RULES["tdc"])
    whole = evaluator(parameters)
    for memory in (1, 3 * 4 * FEATURE * 36 * 8):
        monkeypatch.setattr(parts_of_runs, "MEMORY", memory)
        for key, value in evaluator(parameters).items():
            assert torch.allclose(value, whole[key], rtol=1e-10, atol=1e-13)


def test_a_row_that_is_observation_and_next_observation_is_evaluated_once():
    """Of 9 transitions in 2 episodes, cut after the fourth, 9 + 2 observations are distinct."""
    g = torch.Generator().manual_seed(2)
    states = torch.randn(11, 2, generator=g, dtype=F64)
    first, second = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10]
    here, there = [*first[:-1], *second[:-1]], [*first[1:], *second[1:]]
    constant = torch.ones(9, dtype=F64)
    reward = torch.randn(9, generator=g, dtype=F64)
    held_out = Transition(states[here], reward, 0.9 * constant, states[there], constant)
    module, bodies = initial_bodies(lambda shape: mlp(shape, FEATURE, (6,)), (2,), 0, RUNS)
    parameters = Parameters(
        {name: tensor.double() for name, tensor in bodies.items()},
        torch.randn(RUNS, FEATURE, generator=g, dtype=F64),
        {},
    )
    asked = []

    def counted(body, observation):
        asked.append(len(observation))
        return feature_map(module)(body, observation)

    values = sample_evaluator(in_rows(held_out), None, counted, RULES["td"])(parameters)
    assert set(asked) == {11}
    # The same transitions in another order: no next observation is the following observation.
    order = [0, 2, 1, 3, 4, 6, 5, 8, 7]
    shuffled = Transition(*(leaf[order] for leaf in held_out[:5]))
    again = sample_evaluator(in_rows(shuffled), None, counted, RULES["td"])(parameters)
    assert max(asked) > 11
    for name in values.keys() - OF_THE_ORDER:
        torch.testing.assert_close(again[name], values[name], rtol=1e-10, atol=1e-12)
