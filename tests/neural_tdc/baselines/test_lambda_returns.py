import pytest
import torch

from neural_tdc import Transition
from neural_tdc.baselines.lambda_returns import (
    discounted_returns,
    lambda_errors,
    linear_recurrence,
    stream_traces,
    td_errors,
)


def transitions(reward, discount, ratio, first):
    state = torch.arange(len(reward), dtype=torch.float64)[:, None]
    leaves = [torch.tensor(leaf, dtype=torch.float64) for leaf in (reward, discount, ratio, first)]
    return Transition(state, leaves[0], leaves[1], state + 1, leaves[2], leaves[3])


# An episode that terminates after two steps, one that a time limit cuts after two, one unfinished.
STREAM = transitions(
    reward=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    discount=[0.5, 0.0, 0.5, 0.5, 0.5, 0.5],
    ratio=[1.0, 2.0, 0.5, 1.0, 3.0, 1.0],
    first=[1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
)


def random_stream(time=37):
    source = torch.Generator().manual_seed(3)

    def uniform(*shape):
        return torch.rand(*shape, generator=source, dtype=torch.float64)

    discount = 0.9 * (uniform(time) > 0.15).double()
    first = (uniform(time) > 0.8).double()
    # Behind a termination an episode starts.
    first[1:] = torch.maximum(first[1:], (discount[:-1] == 0).double())
    first[0] = 1
    return Transition(
        uniform(time, 3), uniform(time), discount, uniform(time, 3), 2 * uniform(time), first
    )


@pytest.mark.parametrize("time", [1, 2, 5, 9, 10, 37])
def test_a_recurrence_in_blocks_is_the_loop_over_time(time):
    source = torch.Generator().manual_seed(time)
    factor = torch.randn(time, generator=source, dtype=torch.float64)
    value = torch.randn(time, 4, generator=source, dtype=torch.float64)
    start = torch.randn(4, generator=source, dtype=torch.float64)
    expected, state = [], start
    for t in range(time):
        state = factor[t] * state + value[t]
        expected.append(state)
    solved = linear_recurrence(factor, value, start)
    torch.testing.assert_close(solved, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_a_recurrence_takes_a_factor_per_item():
    factor = torch.tensor([[0.5, 2.0], [0.5, 2.0], [0.5, 3.0]])
    value = torch.tensor([[4.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    expected = [[4.0, 1.0], [3.0, 3.0], [3.5, 9.0]]
    assert linear_recurrence(factor, value).tolist() == expected


def test_returns_end_at_a_termination_and_know_where_a_cut_leaves_them_incomplete():
    returns = discounted_returns(STREAM)
    assert returns.value.tolist() == [2.0, 2.0, 8.0, 8.0, 32.0, 32.0]
    assert returns.complete.tolist() == [True, True, False, False, False, False]


def test_a_cut_return_is_complete_once_the_discount_has_made_the_rest_negligible():
    length = 9
    stream = transitions([1.0] * length, [0.5] * length, [1.0] * length, [1.0] + [0.0] * 8)
    # 0.5^7 is below a hundredth and 0.5^6 is not.
    assert discounted_returns(stream).complete.tolist() == [True] * 3 + [False] * 6


def test_lambda_returns_have_the_values_computed_by_hand():
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    next_value = torch.tensor([2.0, 9.0, 4.0, 7.0, 6.0, 8.0], dtype=torch.float64)
    td_error = td_errors(value, next_value, STREAM)
    # r + γV(s') − V(s); the 9 behind the termination has no effect.
    assert td_error.tolist() == [1.0, 0.0, 3.0, 7.5, 14.0, 30.0]
    # From the end of each episode: ρ(δ + ½·½·δ^λ of the next transition).
    expected = [1.0 + 0.25 * 0.0, 0.0, 0.5 * (3.0 + 0.25 * 7.5), 7.5, 3 * (14.0 + 0.25 * 30), 30.0]
    assert lambda_errors(td_error, STREAM, 0.5).tolist() == expected


def literal_lambda_return(stream, value, next_value, decay, t):
    """G_t = ρ_t(r_t + γ_t[(1−λ)V(s'_t) + λG_{t+1}]) + (1 − ρ_t)V(s_t), with V(s') at a cut."""
    is_cut = t + 1 == len(value) or stream.first[t + 1] == 1
    if is_cut:
        following = next_value[t]
    else:
        later = literal_lambda_return(stream, value, next_value, decay, t + 1)
        following = (1 - decay) * next_value[t] + decay * later
    inner = stream.reward[t] + stream.discount[t] * following
    return stream.ratio[t] * inner + (1 - stream.ratio[t]) * value[t]


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_lambda_errors_are_the_recursion_with_control_variates(decay):
    stream = random_stream()
    value = torch.linspace(-1, 1, len(stream.reward) + 1, dtype=torch.float64).sin() * 5
    # Where the stream is not cut, the next state is the state of the next transition.
    value, next_value = value[:-1], value[1:]
    errors = lambda_errors(td_errors(value, next_value, stream), stream, decay)
    for t in range(len(value)):
        expected = literal_lambda_return(stream, value, next_value, decay, t)
        torch.testing.assert_close(value[t] + errors[t], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1.0, float("inf")])
@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_the_forward_view_is_the_backward_view(decay, limit):
    stream = random_stream()
    td_error = torch.linspace(-9, 9, len(stream.reward), dtype=torch.float64).cos()
    forward = lambda_errors(td_error, stream, decay, trace_limit=limit) @ stream.observation
    trace = stream_traces(stream.observation, stream, decay, trace_limit=limit)
    torch.testing.assert_close(forward, td_error @ trace, rtol=1e-12, atol=1e-12)


def test_traces_are_the_recursion_with_the_ratio_before_the_bracket():
    stream, decay, trace = random_stream(), 0.8, torch.zeros(3, dtype=torch.float64)
    found = stream_traces(stream.observation, stream, decay)
    for t in range(len(found)):
        carried = 0.0 if stream.first[t] else stream.discount[t - 1] * decay
        trace = stream.ratio[t] * (carried * trace + stream.observation[t])
        torch.testing.assert_close(found[t], trace, rtol=1e-12, atol=1e-12)


def test_each_candidate_has_its_own_decay_and_its_own_transitions():
    stream = random_stream()
    td_error = torch.linspace(-9, 9, 2 * len(stream.reward), dtype=torch.float64).cos()
    td_error = td_error.reshape(-1, 2)
    used = torch.ones_like(td_error, dtype=torch.bool)
    used[10:20, 1] = False
    both = lambda_errors(td_error, stream, torch.tensor([0.3, 0.9], dtype=torch.float64), used)
    torch.testing.assert_close(both[:, 0], lambda_errors(td_error[:, 0], stream, 0.3))
    # What a candidate may not see is a cut.
    assert stream.first is not None
    first = stream.first.clone()
    first[[10, 20]] = 1
    alone = lambda_errors(td_error[:, 1], stream._replace(first=first), 0.9)
    alone[10:20] = 0
    torch.testing.assert_close(both[:, 1], alone)
