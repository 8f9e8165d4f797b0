"""Transitions in rows hold every transition once and give the means that are written out."""

import pytest
import torch

from neural_tdc.metrics.samples import in_rows, sampled_moments
from neural_tdc.types import Transition

F64 = torch.float64


def stream():
    """Return 7 transitions: an end after the third, a cut after the fifth, nothing after the last.

    The observation of row i of the stream is (i, i²); 100 and more are seen at an end alone.
    """
    number = torch.tensor([0, 1, 2, 3, 4, 5, 6], dtype=F64)
    following = torch.tensor([1, 2, 100, 4, 101, 6, 102], dtype=F64)
    observation, after = (torch.stack([each, each.square()], 1) for each in (number, following))
    discount = torch.tensor([0.9, 0.9, 0, 0.9, 0.9, 0.9, 0.9], dtype=F64)
    return Transition(observation, number - 3, discount, after, 1 + number / 10)


def test_a_row_is_added_where_an_episode_is_cut_and_at_the_end():
    sample = in_rows(stream())
    assert sample.observation[:, 0].tolist() == [0, 1, 2, 3, 4, 101, 5, 6, 102]
    assert (7 * sample.weight).tolist() == pytest.approx([1, 1, 1, 1, 1, 0, 1, 1])
    assert sample.reward.tolist() == [-3, -2, -1, 0, 1, 0, 2, 3]
    assert sample.discount.tolist() == [0.9, 0.9, 0, 0.9, 0.9, 0, 0.9, 0.9]
    assert not sample.on_policy


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [3, 0, 6, 1, 5, 2, 4], [4], [2]])
def test_moments_are_the_means_written_out(order, on_policy):
    seen = Transition(*(leaf[order] for leaf in stream()[:5]))
    if on_policy:
        seen = seen._replace(ratio=torch.ones(len(order), dtype=F64))
    sample = in_rows(seen)
    assert sample.on_policy == on_policy
    turned = torch.tensor([[1.0, 0.5, 2.0], [-0.1, 0.2, 0.3]], dtype=F64)
    got = sampled_moments(sample, torch.tanh(sample.observation @ turned))
    phi, phi_next = (
        torch.tanh(each @ turned) for each in (seen.observation, seen.next_observation)
    )
    A, b0, C = torch.zeros(3, 3, dtype=F64), torch.zeros(3, dtype=F64), torch.zeros(3, 3, dtype=F64)
    count = len(order)
    for i in range(count):
        A += seen.ratio[i] * torch.outer(phi[i], phi[i] - seen.discount[i] * phi_next[i]) / count
        b0 += seen.ratio[i] * seen.reward[i] * phi[i] / count
        C += torch.outer(phi[i], phi[i]) / count
    for found, expected in zip(got, (A, b0, C)):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
