import math
from itertools import pairwise

import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.least_squares import (
    added,
    least_squares_heads,
    least_squares_statistics,
    summed_statistics,
)

P = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.2, 0.2], [0.5, 0.0, 0.5]], dtype=torch.float64)
REWARD = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)


def constant_last(feature):
    return torch.cat([feature, torch.ones_like(feature[:, :1])], 1)


def chain_stream(time, behaviour, discount=0.9):
    """Return the state numbers of a chain in which state 1 terminates with probability 0.2.

    behaviour: the transition matrix that acts; the ratio is that of the matrices
    """
    source = torch.Generator().manual_seed(0)
    draws = torch.rand(time, generator=source, dtype=torch.float64)
    state, rows = 0, []
    start = 1.0
    for draw in draws:
        # The fourth outcome is the termination.
        chances = torch.cat([behaviour[state], 1 - behaviour[state].sum(0, keepdim=True)])
        outcome = min(int((draw > chances.cumsum(0)).sum()), 3)
        ends = outcome == 3
        target = 1 - P[state].sum() if ends else P[state, outcome]
        rows.append(
            (
                state,
                REWARD[state],
                0.0 if ends else discount,
                0 if ends else outcome,
                float(target / chances[outcome]),
                start,
            )
        )
        state, start = (0, 1.0) if ends else (outcome, 0.0)
    leaves = [torch.tensor(leaf, dtype=torch.float64) for leaf in zip(*rows)]
    return Transition(*leaves)


def one_hot(state):
    # With the constant behind them, two columns span all functions of three states.
    return constant_last(torch.eye(3, dtype=torch.float64)[state.long()][:, :2])


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_lstd_lambda_is_exact_on_a_long_stream(decay):
    stream = chain_stream(20_000, P)
    statistics = least_squares_statistics(
        one_hot(stream.observation), one_hot(stream.next_observation), stream, [decay]
    )
    head = least_squares_heads(statistics, [0.0])[0, 0]
    exact = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.9 * P, REWARD)
    assert (one_hot(torch.arange(3)) @ head - exact).abs().max() < 0.5
    assert exact.std() > 4


def test_lstd_without_traces_solves_the_chain_that_was_seen():
    stream = chain_stream(500, P)
    counts = torch.zeros(3, 3, dtype=torch.float64)
    going = stream.discount > 0
    pairs = (stream.observation[going].long(), stream.next_observation[going].long())
    counts.index_put_(pairs, torch.ones(int(going.sum()), dtype=torch.float64), accumulate=True)
    visits = torch.bincount(stream.observation.long(), minlength=3).double()
    seen = torch.eye(3, dtype=torch.float64) - 0.9 * counts / visits[:, None]
    statistics = least_squares_statistics(
        one_hot(stream.observation), one_hot(stream.next_observation), stream, [0.0]
    )
    values = one_hot(torch.arange(3)) @ least_squares_heads(statistics, [0.0])[0, 0]
    torch.testing.assert_close(values, torch.linalg.solve(seen, REWARD), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("limit", [1.0, float("inf")])
def test_lstd_lambda_is_exact_off_policy(limit):
    behaviour = torch.tensor([[0.2, 0.4, 0.4], [0.3, 0.3, 0.2], [0.4, 0.1, 0.5]]).double()
    stream = chain_stream(30_000, behaviour)
    assert stream.ratio.max() > 1.2
    statistics = least_squares_statistics(
        one_hot(stream.observation), one_hot(stream.next_observation), stream, [0.5], limit
    )
    head = least_squares_heads(statistics, [0.0])[0, 0]
    exact = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.9 * P, REWARD)
    assert (one_hot(torch.arange(3)) @ head - exact).abs().max() < 0.5


def random_log(time=40, width=4):
    source = torch.Generator().manual_seed(1)
    feature = torch.randn(time, width, generator=source, dtype=torch.float64)
    next_feature = torch.randn(time, width, generator=source, dtype=torch.float64)
    uniform = torch.rand(4, time, generator=source, dtype=torch.float64)
    stream = Transition(
        feature,
        uniform[0],
        0.9 * (uniform[1] > 0.1).double(),
        next_feature,
        2 * uniform[2],
        (uniform[3] > 0.8).double(),
    )
    return constant_last(feature), constant_last(next_feature), stream


def test_statistics_and_heads_are_those_of_a_literal_loop():
    feature, next_feature, stream = random_log()
    decays, ridges = [0.4, 0.9], [0.01, 0.1, 1.0]
    heads = least_squares_heads(
        least_squares_statistics(feature, next_feature, stream, decays), ridges
    )
    assert heads.shape == (2, 3, 5)
    for i, decay in enumerate(decays):
        matrix, vector, trace = torch.zeros(5, 5).double(), torch.zeros(5).double(), None
        for t in range(len(feature)):
            carried = 0.0
            if t and not stream.first[t]:
                carried = decay * stream.discount[t - 1] * trace
            trace = stream.ratio[t] * (carried + feature[t])
            difference = feature[t] - stream.discount[t] * next_feature[t]
            matrix += torch.outer(trace, difference) / len(feature)
            vector += trace * stream.reward[t] / len(feature)
        for j, ridge in enumerate(ridges):
            penalty = ridge * feature[:, :4].square().mean() * torch.eye(5).double()
            penalty[4, 4] = 0
            expected = torch.linalg.solve(matrix + penalty, vector)
            torch.testing.assert_close(heads[i, j], expected, rtol=1e-10, atol=1e-10)


def test_the_statistics_of_parts_that_begin_with_an_episode_add_up():
    feature, next_feature, stream = random_log()
    border = int(stream.first.nonzero()[3])
    whole = least_squares_statistics(feature, next_feature, stream, [0.0, 0.8])
    parts = [
        least_squares_statistics(
            feature[part],
            next_feature[part],
            Transition(*(leaf[part] for leaf in stream)),
            [0.0, 0.8],
        )
        for part in (slice(0, border), slice(border, None))
    ]
    for sum_of_parts, at_once in zip(added(parts), whole):
        torch.testing.assert_close(sum_of_parts, at_once, rtol=1e-12, atol=1e-12)


def test_a_large_ridge_leaves_the_constant_alone():
    feature, next_feature, stream = random_log()
    stream = stream._replace(ratio=torch.ones_like(stream.ratio))
    statistics = least_squares_statistics(feature, next_feature, stream, [0.0])
    head = least_squares_heads(statistics, [1e9])[0, 0]
    level = stream.reward.mean() / (1 - stream.discount).mean()
    torch.testing.assert_close(head[4], level, rtol=1e-6, atol=0)
    assert head[:4].abs().max() < 1e-6


def test_a_singular_matrix_gives_no_finite_head_and_no_exception():
    feature, next_feature, stream = random_log()
    feature[:, 1], next_feature[:, 1] = feature[:, 0], next_feature[:, 0]
    feature[:, :2], next_feature[:, :2] = 0, 0
    statistics = least_squares_statistics(feature, next_feature, stream, [0.0])
    assert not least_squares_heads(statistics, [0.0]).isfinite().all()
    assert least_squares_heads(statistics, [0.1]).isfinite().all()


@pytest.mark.parametrize("edges", [(0, 2, 9, 10, 31), (0, 1, 31)])
def test_sums_block_by_block_are_those_of_the_whole_stream(edges):
    draws = torch.Generator().manual_seed(3)
    feature, following = torch.randn(2, 31, 4, generator=draws, dtype=torch.float64)
    first = torch.zeros(31, dtype=torch.float64)
    # Episodes of 5, 12 and 14: the blocks end inside them.
    first[[0, 5, 17]] = 1
    reward, ratio = torch.rand(2, 31, generator=draws, dtype=torch.float64) * 2
    discount = torch.full((31,), 0.95, dtype=torch.float64)
    stream = Transition(feature, reward, discount, following, ratio, first)
    blocks = [
        (slice(*edge), feature[slice(*edge)], following[slice(*edge)]) for edge in pairwise(edges)
    ]
    decays, limits = [0.0, 0.9, 1.0], [math.inf, 1.0]
    found = summed_statistics(blocks, stream, decays, limits)
    for limit, statistics in zip(limits, found):
        whole = least_squares_statistics(feature, following, stream, decays, limit)
        for one, other in zip(statistics, whole):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
