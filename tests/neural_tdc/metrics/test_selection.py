import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.lambda_returns import discounted_returns
from neural_tdc.baselines.log_preparation import best_constant, episode_numbers
from neural_tdc.metrics.selection import (
    effective_sample_size,
    selection_returns,
    td_error_scores,
    tournament_scores,
)
from neural_tdc.metrics.stream_values import stream_values

# A ring of three states that is left with probability 0.1; rewards by state, γ = 0.9.
REWARD = torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64)
NEXT = torch.tensor([1, 2, 0])
P = 0.9 * torch.eye(3, dtype=torch.float64)[NEXT]
VALUE = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.9 * P, REWARD)


def ring(time, behaviour_end=0.1):
    """Return a stream; the behaviour ends episodes with another probability than the target."""
    source = torch.Generator().manual_seed(5)
    draws = torch.rand(time, generator=source, dtype=torch.float64).tolist()
    state, start, rows = 0, 1.0, []
    for draw in draws:
        ends = draw < behaviour_end
        ratio = 0.1 / behaviour_end if ends else 0.9 / (1 - behaviour_end)
        after = int(NEXT[state])
        rows.append((state, float(REWARD[state]), 0.0 if ends else 0.9, after, ratio, start))
        state, start = (0, 1.0) if ends else (after, 0.0)
    return Transition(*(torch.tensor(leaf, dtype=torch.float64) for leaf in zip(*rows)))


def candidates(stream, tables):
    at = [
        torch.stack([table[leaf.long()] for table in tables], 1) for leaf in (stream[0], stream[3])
    ]
    return at[0], at[1]


TABLES = [VALUE, VALUE + 0.3, 0.5 * VALUE, torch.zeros(3, dtype=torch.float64)]


def test_errors_against_returns_differ_by_the_differences_of_exact_value_errors():
    stream = ring(60_000)
    value, _ = candidates(stream, TABLES)
    returns = discounted_returns(stream)
    error = (returns.value[returns.complete, None] - value[returns.complete]).square().mean(0)
    weighting = torch.bincount(stream.observation.long()) / len(stream.reward)
    exact = torch.stack([(weighting * (VALUE - table).square()).sum() for table in TABLES])
    assert (error - error[0] - exact).abs().max() < 0.03 * exact.max()
    assert error.argsort().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("behaviour_end", [0.1, 0.3])
def test_the_tournament_puts_the_true_values_first_also_off_policy(behaviour_end):
    stream = ring(60_000, behaviour_end)
    value, next_value = candidates(stream, TABLES)
    scores = tournament_scores(stream_values(value, next_value), stream)
    assert scores.argsort().tolist() == [0, 1, 2, 3]
    assert scores[0] < 0.02 < 0.05 < scores[1]


def test_tournament_scores_are_the_maximum_of_a_literal_loop():
    stream = ring(40, 0.3)
    value, next_value = candidates(stream, TABLES[:3])
    scores = tournament_scores(stream_values(value, next_value), stream)
    for i in range(3):
        products = []
        for j in range(3):
            total = sum(
                stream.ratio[t]
                * (stream.reward[t] + stream.discount[t] * next_value[t, i] - value[t, i])
                * value[t, j]
                for t in range(40)
            )
            products.append(abs(total / 40) / value[:, j].square().mean().sqrt())
        torch.testing.assert_close(scores[i], max(products))


def test_complete_returns_are_the_criterion_on_policy():
    stream = ring(500)
    value, next_value = candidates(stream, TABLES)
    found = selection_returns(stream_values(value, next_value), stream)
    assert found.criterion == "returns"
    returns = discounted_returns(stream)
    assert torch.equal(found.value, returns.value)
    assert torch.equal(found.usable, returns.complete)
    share = returns.complete.double().mean()
    assert found.note == f"{share:.1%} of the held-out returns are complete and used"


@pytest.mark.parametrize("behaviour_end", [0.2, 0.05])
def test_bootstrapped_returns_are_the_criterion_off_policy_and_rank_true_values_first(
    behaviour_end,
):
    stream = ring(30_000, behaviour_end)
    value, next_value = candidates(stream, TABLES)
    found = selection_returns(stream_values(value, next_value), stream)
    assert found.criterion == "bootstrapped returns"
    error = (found.value[:, None] - value).square().mean(0)
    assert error.argsort().tolist() == [0, 1, 2, 3]


def test_bootstrapped_returns_are_the_criterion_where_no_return_is_complete():
    stream = ring(40)
    stream = stream._replace(first=torch.ones(40), discount=torch.full((40,), 0.9).double())
    value, next_value = candidates(stream, TABLES)
    returns = selection_returns(stream_values(value, next_value), stream)
    assert returns.criterion == "bootstrapped returns"
    assert "hardly any return is complete" in returns.note
    # Every transition is cut: the return is r + 0.9·V(s') of the reference.
    expected = stream.reward + 0.9 * (next_value @ returns.weights)
    torch.testing.assert_close(returns.value, expected)


def test_the_td_error_prefers_values_that_have_learned_nothing():
    # A reward of 10 or −10 after a state that tells which: the truth has errors where zero has few.
    reward = torch.tensor([0.0, 10.0, 0.0, -10.0]).double().repeat(50)
    state = torch.tensor([0.0, 1.0, 0.0, 2.0]).double().repeat(50)
    discount = torch.tensor([1.0, 0.0, 1.0, 0.0]).double().repeat(50)
    stream = Transition(state, reward, discount, state.roll(-1), torch.ones(200).double())
    truth = torch.tensor([0.0, 10.0, -10.0]).double()
    half = torch.tensor([0.0, 5.0, -5.0]).double()
    value, next_value = candidates(stream, [truth, half])
    # √(½·100) and √(½·25 + ½·25)
    torch.testing.assert_close(
        td_error_scores(stream_values(value, next_value), stream),
        torch.tensor([50.0, 25.0], dtype=torch.float64).sqrt(),
    )


def test_the_effective_sample_size_counts_equal_weights_fully_and_one_weight_as_one():
    assert effective_sample_size(torch.full((7,), 0.3)) == pytest.approx(7)
    assert effective_sample_size(torch.tensor([0.0, 0.0, 5.0])) == pytest.approx(1)
    assert effective_sample_size(torch.tensor([1.0, 3.0])) == pytest.approx(1.6)


def test_the_best_constant_is_the_mean_return_where_every_return_is_complete():
    stream = ring(5_000)
    ended = int((stream.discount == 0).nonzero()[-1]) + 1
    stream = Transition(*(leaf[:ended] for leaf in stream))
    returns = discounted_returns(stream)
    assert returns.complete.all()
    # E[r + γc − c] = 0: every state counts once as a beginning and once as what follows.
    expected = stream.reward.mean() / (1 - stream.discount).mean()
    assert best_constant(stream) == pytest.approx(float(expected))
    assert best_constant(stream._replace(discount=torch.ones_like(stream.discount))) == 0


def test_long_episodes_are_numbered_in_blocks():
    discount = torch.full((25,), 0.5)
    first = torch.zeros(25)
    first[[0, 5]] = 1
    zero = torch.zeros(25)
    # Blocks of 4/(1 − ½) = 8.
    number = episode_numbers(Transition(zero, zero, discount, zero, zero, first))
    assert number.tolist() == [0] * 5 + [1] * 8 + [2] * 8 + [3] * 4
