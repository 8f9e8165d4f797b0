"""Eligibility traces against exact expectations on a chain, and LSTD(λ)."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import boyan, random_walk_dependent
from envs.finite.streams import exact_transitions, simulate_streams
from neural_tdc.learning.algorithm import Algorithm, initial_state, population, step
from neural_tdc.rules.composition import NO_STATE
from neural_tdc.rules.lstd import LstdHead, accumulated
from neural_tdc.rules.traces import moved_traces
from neural_tdc.types import Parameters, StepSizes, mapped
from tests.neural_tdc.rules.given_features import FEATURE, HEADS, begun, given, rule


def in_features(mdp, transitions):
    """Put the features of states in the place of their numbers."""
    return transitions._replace(
        observation=mdp.features[transitions.observation],
        next_observation=mdp.features[transitions.next_observation],
    )


def relative_error(left, right):
    return float((left - right).norm() / right.norm())


def expectation(mdp, decay):
    """Return every transition with its probability and the mean traces there, by `moved_traces`.

    The mean of what arrives at a state is carried along every transition until it stands still;
    it is affine in it, so that means are all that is needed.
    """
    batch, weights = exact_transitions(mdp)
    batch = batch._replace(first=torch.zeros_like(batch.reward))
    seen = in_features(mdp, batch)
    weighting = chain(mdp).weighting
    arriving = torch.zeros(2, *mdp.features.shape, dtype=torch.float64)

    def one(kept, kept_behaviour, transition):
        # Already multiplied by λγ_t where it was carried.
        memory = {
            "eligibility": kept[None],
            "behaviour": kept_behaviour[None],
            "carry": torch.ones(1, dtype=torch.float64),
        }
        alone = mapped(transition, lambda leaf: leaf[None])
        return moved_traces(memory, alone.observation, alone, decay)

    for _ in range(2000):
        memory = torch.vmap(one)(*arriving[:, batch.observation], seen)
        before = arriving
        arriving = torch.zeros_like(before)
        for i, name in enumerate(("eligibility", "behaviour")):
            carried = memory["carry"] * memory[name][:, 0] * weights[:, None]
            arriving[i].index_add_(0, batch.next_observation, carried)
        arriving = arriving / weighting[:, None]
        if torch.equal(arriving, before):
            break
    return seen, weights, memory


def mean_directions(chosen, parameters, expected):
    """Return the expected directions at given parameters."""
    batch, weights, memory = expected

    def one(transition, memory):
        alone = mapped(transition, lambda leaf: leaf[None])
        state = NO_STATE._replace(view=memory)
        return chosen.directions(given, parameters, alone, state)

    directions = torch.vmap(one)(batch, memory)
    (auxiliary,) = [*directions.auxiliary.values()] or [torch.zeros(len(weights), 0).double()]
    return weights @ directions.head, weights @ auxiliary


def solution(mdp, decay, behaviour=False):
    """Return A = ΦᵀD(I − γλP)⁻¹(I − γP)Φ and b = ΦᵀD(I − γλP)⁻¹r, on the target's chain."""
    if behaviour:
        mdp = mdp._replace(target=mdp.behaviour)
    model = chain(mdp)
    identity = torch.eye(len(model.reward), dtype=torch.float64)
    left = mdp.features.T @ model.weighting.diag()
    discounted = model.discount * model.transition
    left = left @ torch.linalg.inv(identity - decay * discounted)
    return left @ (identity - discounted) @ mdp.features, left @ model.reward


CHAINS = {"boyan": boyan, "random walk, off-policy": random_walk_dependent}


@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_lstd_statistics_have_the_exact_matrix_as_their_expectation(make, decay):
    mdp = make()
    batch, weights, memory = expectation(mdp, decay)
    head = torch.zeros_like(mdp.features[0])
    empty = LstdHead().init(Parameters({}, head, {}), mdp.features, torch.Generator())

    def one(transition, trace):
        alone = mapped(transition, lambda leaf: leaf[None])
        difference = alone.observation - alone.discount[:, None] * alone.next_observation
        return accumulated(empty, trace, difference, alone.reward, 1)

    statistics = torch.vmap(one)(batch, memory["eligibility"])
    A, b = solution(mdp, decay)
    assert relative_error(torch.einsum("t,tij->ij", weights, statistics["matrix"]), A) < 1e-12
    assert relative_error(weights @ statistics["vector"], b) < 1e-12


def test_a_long_stream_gives_lstd_the_exact_matrix_within_three_standard_errors():
    mdp, runs, steps, decay = random_walk_dependent(), 60, 800, 0.7
    stream = simulate_streams(mdp, runs, steps, seed=3, dtype=torch.float64)
    chosen = rule("lstd", decay, lstd_window=10**9)
    parameters, fresh = begun(chosen)
    state = tree_map(lambda leaf: leaf.expand(runs, *leaf.shape), fresh)

    def one(state, batch):
        return chosen.update(given, parameters, batch, state)

    for t in range(steps):
        batch = in_features(mdp, mapped(stream, lambda leaf, t=t: leaf[:, t : t + 1]))
        state = torch.vmap(one)(state, batch)
    A, b = solution(mdp, decay)
    other = dict(zip(("matrix", "vector"), solution(mdp, 0.0)))
    for name, exact in (("matrix", A), ("vector", b)):
        seen = state.head[name]
        error = seen.std(0) / runs**0.5
        assert ((seen.mean(0) - exact).abs() < 3 * error).all()
        # The stream can tell one λ from another.
        assert ((seen.mean(0) - other[name]).abs() > 10 * error).any()


@pytest.mark.parametrize("decay", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_expected_tdc_and_gtd2_directions_are_the_gradient_of_the_projected_error(make, decay):
    mdp = make()
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    C = mdp.features.T @ chain(mdp).weighting.diag() @ mdp.features
    width = len(b)
    parameters, _ = begun(rule("tdc", decay), width)
    error = b - A @ parameters.head
    omega = torch.linalg.solve(C, error)
    names = ("tdc", "tdrc")
    best = parameters._replace(auxiliary=dict.fromkeys(names, omega))
    elsewhere = parameters._replace(auxiliary=dict.fromkeys(names, parameters.auxiliary["tdc"]))
    for head in ("tdc", "gtd2", "tdrc"):
        chosen = rule(head, decay)
        if head == "tdrc":
            chosen = chosen.with_settings(kappa=0.0)
        direction, auxiliary = mean_directions(chosen, best, expected)
        assert relative_error(direction, -A.T @ omega) < 1e-11
        assert auxiliary.abs().max() < 1e-12
        _, auxiliary = mean_directions(chosen, elsewhere, expected)
        assert relative_error(auxiliary, C @ elsewhere.auxiliary["tdc"] - error) < 1e-12


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_expected_htd_directions_replace_the_covariance_by_the_behaviours_matrix(make):
    mdp, decay = make(), 0.6
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    behaved, _ = solution(mdp, decay, behaviour=True)
    chosen = rule("htd", decay)
    parameters, _ = begun(chosen, len(b))
    error, omega = b - A @ parameters.head, parameters.auxiliary["htd"]
    direction, auxiliary = mean_directions(chosen, parameters, expected)
    assert relative_error(direction, -(error + (A - behaved).T @ omega)) < 1e-12
    assert relative_error(auxiliary, behaved.T @ omega - error) < 1e-12


@pytest.mark.parametrize("head", HEADS)
def test_expected_updates_off_policy_converge_to_the_lstd_solution(head):
    mdp, decay = random_walk_dependent(), 0.7
    expected = expectation(mdp, decay)
    A, b = solution(mdp, decay)
    fixed_point = torch.linalg.solve(A, b)
    chosen = rule(head, decay)
    parameters, _ = begun(chosen)
    # The expected directions are affine: their matrix and offset from a few evaluations.
    count = FEATURE * (1 + len(parameters.auxiliary))

    def stacked(x):
        at = Parameters({}, x[:FEATURE], dict.fromkeys(chosen.auxiliaries, x[FEATURE:]))
        return torch.cat(mean_directions(chosen, at, expected))

    offset = stacked(torch.zeros(count).double())
    matrix = torch.stack([stacked(row) - offset for row in torch.eye(count).double()], 1)
    x = torch.cat([parameters.head, *parameters.auxiliary.values()])
    for _ in range(50_000):
        x = x - 0.3 * (matrix @ x + offset)
    assert relative_error(x[:FEATURE], fixed_point) < 1e-6
    assert x[FEATURE:].abs().sum() < 1e-6


def test_a_population_of_runs_follows_the_written_out_tdc_each_on_its_own_stream():
    mdp, decay, runs, steps, size = random_walk_dependent(), 0.7, 4, 60, 0.2
    stream = in_features(mdp, simulate_streams(mdp, runs, steps, seed=5, dtype=torch.float64))
    assert (stream.first.sum(1) > 1).all()
    assert (stream.ratio != 1).all()
    chosen = rule("tdc", decay)
    parameters, state = begun(chosen)
    algorithm = Algorithm(chosen, given)
    state = initial_state(algorithm, parameters, state)
    state = tree_map(lambda leaf: leaf.expand(runs, *leaf.shape), state)
    many = population(partial(step, algorithm))
    sizes = torch.full((runs,), size, dtype=torch.float64)
    for t in range(steps):
        batch = mapped(stream, lambda leaf, t=t: leaf[:, t : t + 1])
        state = many(state, batch, StepSizes(sizes, sizes, sizes))
    for run in range(runs):
        theta, omega = parameters.head, parameters.auxiliary["tdc"]
        trace, arrived = torch.zeros(FEATURE).double(), 0
        for t in range(steps):
            phi, following = stream.observation[run, t], stream.next_observation[run, t]
            discount, ratio = float(stream.discount[run, t]), float(stream.ratio[run, t])
            if stream.first[run, t]:
                arrived = 0
            trace = ratio * (arrived * decay * trace + phi)
            arrived = discount
            delta = stream.reward[run, t] + discount * (theta @ following) - theta @ phi
            correction = discount * (1 - decay) * (trace @ omega) * following
            theta, omega = (
                theta + size * (delta * trace - correction),
                omega + size * (delta * trace - (phi @ omega) * phi),
            )
        assert relative_error(state.parameters.head[run], theta) < 1e-12
        assert relative_error(state.parameters.auxiliary["tdc"][run], omega) < 1e-12
