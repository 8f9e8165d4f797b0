"""Simulated streams and exact transitions agree with the chain of the same problem."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.finite.finite_mdp import chain, finite_mdp
from envs.finite.standard_problems import FINITE_PROBLEMS, baird, boyan, garnet, random_walk_tabular
from envs.finite.streams import exact_transitions, rmstde, simulate_streams

F64 = torch.float64


def random_mdp(states=5, actions=2, ends=True, seed=0, off_policy=True, discount=0.9):
    """Return a problem with sparse transitions, unequal policies and rewards on all outcomes."""
    source = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.rand(*shape, generator=source, dtype=F64)

    def policy():
        weights = numbers(states, actions) + 0.2
        return weights / weights.sum(1, keepdim=True)

    outcomes = numbers(states, actions, states + 1)
    outcomes = torch.where(outcomes > 0.5, outcomes, 0.0)
    # A ring keeps every state within reach of every other.
    outcomes[range(states), :, [(state + 1) % states for state in range(states)]] += 0.3
    if not ends:
        outcomes[..., -1] = 0
    outcomes = outcomes / outcomes.sum(-1, keepdim=True)
    start = torch.where(numbers(states) > 0.5, 1.0, 0.0)
    start[0] = 1
    target = policy()
    return finite_mdp(
        transition=outcomes[..., :-1],
        reward=numbers(states, actions, states) - 0.5,
        discount=discount,
        termination=outcomes[..., -1],
        terminal_reward=numbers(states, actions) + 1,
        start=start / start.sum(),
        target=target,
        behaviour=policy() if off_policy else target,
        features=numbers(states, 3),
        name="random",
    )


def expectations(mdp, features):
    """Return A, b₀ and C as weighted averages over single transitions."""
    batch, weights = exact_transitions(mdp)
    now, then = features[batch.observation], features[batch.next_observation]
    weighted = (weights * batch.ratio)[:, None] * now
    A = weighted.T @ (now - batch.discount[:, None] * then)
    return A, weighted.T @ batch.reward, (weights[:, None] * now).T @ now


class Interval:
    """Means over independent streams, and how many standard errors they lie from the truth."""

    def __init__(self, per_stream):
        self.mean = per_stream.mean(0)
        self.error = per_stream.std(0) / len(per_stream) ** 0.5

    def distance(self, truth=0.0, which=...):
        return ((self.mean - truth).abs() / self.error.clamp(min=1e-12))[which].max()


@pytest.mark.parametrize("ends", [True, False])
def test_expectations_over_exact_transitions_equal_the_chain(ends):
    mdp = random_mdp(ends=ends)
    _, weights = exact_transitions(mdp)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    for found, expected in zip(expectations(mdp, mdp.features), chain(mdp).moments(mdp.features)):
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


def test_transitions_that_the_start_never_reaches_are_left_out():
    transition = torch.tensor([[[1.0, 0, 0]], [[0, 0, 1]], [[0, 1, 0]]])
    mdp = finite_mdp(transition, torch.zeros(3, 1, 3), 0.5, start=[0, 1, 0])
    batch, weights = exact_transitions(mdp)
    assert batch.observation.tolist() == [1, 2]
    assert weights.tolist() == [0.5, 0.5]


def test_rmstde_weighs_single_transitions_and_not_expected_rewards():
    # One state, one action: it stays with reward 3 or ends with reward −1, each half of the time.
    mdp = finite_mdp(
        transition=[[[0.5]]],
        reward=[[[3]]],
        discount=1.0,
        termination=[[0.5]],
        terminal_reward=[[-1]],
    )
    head = torch.tensor([2.0], dtype=F64)
    # δ is 3 + 2 − 2 = 3 or −1 − 2 = −3; the Bellman error is 0.
    assert rmstde(mdp, mdp.features, head) == pytest.approx(3)
    assert chain(mdp).rmsbe(mdp.features, head) == 0


def test_rmstde_corrects_for_the_behaviour():
    mdp = random_mdp()
    head = torch.tensor([0.3, -0.7, 1.1])
    values = mdp.features @ head.double()
    weighting = chain(mdp).weighting
    total = 0.0
    for state in range(5):
        for action in range(2):
            common = float(weighting[state] * mdp.target[state, action])
            for following in range(5):
                delta = mdp.reward[state, action, following] + 0.9 * values[following]
                p = float(mdp.transition[state, action, following])
                total += common * p * float(delta - values[state]) ** 2
            delta = mdp.terminal_reward[state, action] - values[state]
            total += common * float(mdp.termination[state, action]) * float(delta) ** 2
    assert rmstde(mdp, mdp.features, head) == pytest.approx(total**0.5, rel=1e-12)


def rows(transition):
    """Return (s, s', r, γ_t, ρ) of every transition as a set of rounded rows."""
    fields = [field.double().flatten() for field in transition[:5]]
    order = (fields[0], fields[3], fields[1], fields[2], fields[4])
    return {tuple(round(x, 9) for x in row) for row in torch.stack(order, 1).tolist()}


@settings(max_examples=25, deadline=None)
@given(
    states=st.integers(2, 6),
    actions=st.integers(1, 3),
    ends=st.booleans(),
    off_policy=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_simulator_chain_and_exact_transitions_agree(states, actions, ends, off_policy, seed):
    mdp = random_mdp(states, actions, ends, seed, off_policy)
    for found, expected in zip(expectations(mdp, mdp.features), chain(mdp).moments(mdp.features)):
        torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
    streams = simulate_streams(mdp, 5, 40, seed, dtype=F64)
    batch, _ = exact_transitions(mdp)
    assert rows(streams) <= rows(batch)
    ended, after = streams.discount[:, :-1] == 0, streams.observation[:, 1:]
    went_on = streams.next_observation[:, :-1]
    assert torch.equal(after[~ended], went_on[~ended])
    assert (mdp.start[after[ended]] > 0).all()
    assert (mdp.start[streams.observation[:, 0]] > 0).all()
    assert torch.equal(streams.first[:, 1:], ended.double())
    assert (streams.first[:, 0] == 1).all()
    assert off_policy or (streams.ratio == 1).all()


def test_long_simulations_meet_every_probability():
    mdp = random_mdp(3, 2, seed=3)
    streams = simulate_streams(mdp, 60, 1_000, seed=1, dtype=F64)
    batch, weights = exact_transitions(mdp)

    def identity(transition):
        return torch.stack([field.double() for field in transition[:5]], -1)

    kinds = identity(batch)
    # The first steps still remember the start.
    seen = identity(streams)[:, 50:, None] - kinds
    frequency = (seen.abs().amax(-1) < 1e-12).double().mean(1)
    assert frequency.sum(1) == pytest.approx(torch.ones(60))
    assert Interval(frequency).distance(weights) < 4


def test_the_discount_is_zero_exactly_where_an_episode_ends():
    mdp = random_walk_tabular()
    streams = simulate_streams(mdp, 7, 200, seed=0)
    ended = streams.discount == 0
    assert ended.any()
    assert torch.equal(streams.discount, (~ended).float())
    assert torch.equal(streams.next_observation[ended], streams.observation[ended])
    assert torch.equal(streams.reward != 0, ended)
    assert torch.equal(streams.first[:, 1:] == 1, ended[:, :-1])
    assert (streams.observation[streams.first == 1] == 2).all()
    assert ended.sum() / streams.first.sum() == pytest.approx(1, abs=0.2)


def test_shapes_and_precision_of_a_simulation():
    for dtype in (torch.float32, F64):
        streams = simulate_streams(baird(), 3, 11, seed=0, dtype=dtype)
        for name, field in streams._asdict().items():
            assert field.shape == (3, 11), name
            assert field.dtype == (torch.int64 if "observation" in name else dtype), name


def test_a_stream_depends_neither_on_the_number_of_streams_nor_on_the_steps():
    # More steps than are drawn at once, so that the pieces must fit together.
    many = simulate_streams(random_walk_tabular(), 4, 2_500, seed=5)
    few = simulate_streams(random_walk_tabular(), 2, 2_100, seed=5)
    for longer, shorter in zip(many, few):
        assert torch.equal(longer[:2, :2_100], shorter)
    assert not torch.equal(many.observation[0], many.observation[1])


def test_another_seed_gives_other_streams():
    one, other = (simulate_streams(garnet(), 1, 50, seed=seed).observation for seed in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, simulate_streams(garnet(), 1, 50, seed=0).observation)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_means_the_same_streams_on_every_device():
    here = simulate_streams(random_mdp(), 3, 2_500, seed=0)
    there = simulate_streams(random_mdp(), 3, 2_500, seed=0, device="cuda")
    for mine, theirs in zip(here, there):
        assert theirs.is_cuda
        assert torch.equal(mine, theirs.cpu())


@pytest.mark.parametrize(("streams", "steps"), [(0, 5), (5, 0)])
def test_an_empty_simulation_is_refused(streams, steps):
    with pytest.raises(ValueError, match="at least 1"):
        simulate_streams(baird(), streams, steps, seed=0)


def often_visited(mdp):
    """Return the states [S] whose means over streams of 1,000 steps are about normal."""
    return chain(mdp).weighting > 1e-3


@pytest.mark.parametrize("name", FINITE_PROBLEMS)
def test_weighting_is_met_by_a_long_simulation(name):
    mdp = FINITE_PROBLEMS[name]()
    streams = simulate_streams(mdp, 100, 1_200, seed=2)
    # The first steps still remember the start; streams are independent of each other.
    visits = torch.nn.functional.one_hot(streams.observation[:, 400:], len(mdp.start))
    interval = Interval(visits.double().mean(1))
    start = int(mdp.start.argmax())
    weighting = chain(mdp).weighting
    alone = (interval.mean - weighting).abs()[start] / interval.error[start].clamp(min=1e-12)
    assert alone < 3
    assert interval.distance(weighting, often_visited(mdp)) < 4


# Baird's star has no reward: there every return is 0.
# Under their target policies these have the same return every time.
WITHOUT_CHANCE = {"baird", "two-states", "spiral", "collision"}


@pytest.mark.parametrize("name", sorted(FINITE_PROBLEMS.keys() - WITHOUT_CHANCE))
def test_value_is_met_by_the_returns_of_a_long_simulation(name):
    mdp = FINITE_PROBLEMS[name]()
    mdp = mdp._replace(behaviour=mdp.target)
    horizon, steps = 300, 1_000
    streams = simulate_streams(mdp, 100, steps, seed=3, dtype=F64)
    returns = torch.zeros(100, steps, dtype=F64)
    ahead = torch.zeros(100, dtype=F64)
    for time in reversed(range(steps)):
        ahead = streams.reward[:, time] + streams.discount[:, time] * ahead
        returns[:, time] = ahead
    value = chain(mdp).value()
    states = streams.observation[:, : steps - horizon]
    surprise = returns[:, : steps - horizon] - value[states]
    # The expected surprise in a state is 0 whatever happened before it.
    sums = torch.zeros(100, len(value), dtype=F64).scatter_add(1, states, surprise)
    interval = Interval(sums)
    start = int(mdp.start.argmax())
    assert interval.mean[start].abs() < 3 * interval.error[start]
    # A return that hardly ever differs is not normal either.
    varied = often_visited(mdp) & (interval.error > 1e-3 * interval.error.max())
    assert interval.distance(which=varied) < 4


def test_streams_that_do_not_fit_into_memory_are_refused_at_once():
    with pytest.raises(ValueError, match=r"^experience of 1,000,000,000 × 7 transitions of boyan "):
        simulate_streams(boyan(), 10**9, 7, seed=0)
