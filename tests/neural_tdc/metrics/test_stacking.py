import pytest
import torch

from neural_tdc import Transition
from neural_tdc.metrics.selection import selection_returns
from neural_tdc.metrics.stacking import simplex_least_squares, stacked_weights
from neural_tdc.metrics.stream_values import stream_values


def test_weights_on_the_simplex_are_those_of_least_squares():
    # Items at 0, 1 and 4 of a line: 3 is a third of 1 and two of 4, or a quarter of 0 and the rest.
    items = torch.tensor([[0.0, 1.0, 4.0], [0.0, 2.0, 8.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 1 / 3, 2 / 3], dtype=torch.float64)
    target = items @ expected
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    found = simplex_least_squares(items.T @ items, items.T @ target, start, 500)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)
    assert torch.equal(start, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def test_a_target_outside_of_all_items_takes_the_nearest_corner():
    items = torch.eye(3, dtype=torch.float64)
    target = torch.tensor([-1.0, 3.0, -2.0], dtype=torch.float64)
    start = torch.full((3,), 1 / 3, dtype=torch.float64)
    found = simplex_least_squares(items, target, start, 50)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert simplex_least_squares(items, target, start, 0).equal(start)


def ring(time, behaviour_end):
    """Return a stream on a ring of three states and its true values; see the module's doc."""
    reward = torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64)
    following = torch.tensor([1, 2, 0])
    moves = 0.9 * torch.eye(3, dtype=torch.float64)[following]
    value = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.9 * moves, reward)
    source = torch.Generator().manual_seed(5)
    state, start, rows = 0, 1.0, []
    for draw in torch.rand(time, generator=source, dtype=torch.float64).tolist():
        ends = draw < behaviour_end
        ratio = 0.1 / behaviour_end if ends else 0.9 / (1 - behaviour_end)
        after = int(following[state])
        rows.append((state, float(reward[state]), 0.0 if ends else 0.9, after, ratio, start))
        state, start = (0, 1.0) if ends else (after, 0.0)
    return Transition(*(torch.tensor(leaf, dtype=torch.float64) for leaf in zip(*rows))), value


@pytest.mark.parametrize("scales", [(0.5, 1.4), (0.0, 0.8, 2.0)])
def test_off_policy_the_weighted_mean_is_nearer_to_the_truth_than_any_candidate(scales):
    stream, truth = ring(40_000, 0.2)
    tables = [scale * truth for scale in scales]
    at = [
        torch.stack([table[leaf.long()] for table in tables], 1)
        for leaf in (stream.observation, stream.next_observation)
    ]
    found = selection_returns(stream_values(*at), stream)
    assert found.weights is not None
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1)
    mean = sum(float(weight) * table for weight, table in zip(found.weights, tables))
    nearest = min((table - truth).norm() for table in tables)
    assert (mean - truth).norm() < 0.3 * nearest
    # The returns themselves are near the truth on average.
    for state in range(3):
        average = found.value[stream.observation == state].mean()
        assert average == pytest.approx(float(truth[state]), rel=0.05)


def test_the_returns_are_around_the_weighted_mean():
    stream, truth = ring(3_000, 0.2)
    tables = (truth, 0.3 * truth)
    value, next_value = (
        torch.stack([table[leaf.long()] for table in tables], 1)
        for leaf in (stream.observation, stream.next_observation)
    )
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    weights, target = stacked_weights(stream_values(value, next_value), stream, start)
    assert weights[0] > 0.9
    assert weights.sum() == pytest.approx(1)
    # δ of the mean, behind a termination nothing: the return of an episode's last transition.
    mean, after = value @ weights, next_value @ weights
    last = stream.discount == 0
    expected = mean + stream.ratio * (stream.reward + stream.discount * after - mean)
    torch.testing.assert_close(target[last], expected[last])
