"""Sequences: segments of a stream, and what is learned from them by λ."""

import pytest
import torch
from torch import Tensor

from neural_tdc.evaluation import evaluate
from neural_tdc.learning.experience import Experience, gather, joined_segments
from neural_tdc.learning.sampling import SequenceSampling
from neural_tdc.randomness import keys
from neural_tdc.types import Transition, mapped

STATE = 3
F64 = torch.float64


def stream(length, streams=2):
    """Return streams whose rewards are the numbers of their transitions; episodes of 5."""
    number = torch.arange(length, dtype=F64).expand(streams, length).clone()
    first = (number % 5 == 0).double()
    constant = torch.full_like(number, 0.9)
    observation = torch.stack([number, -number, number.sin()], -1)
    return Transition(observation, number, constant, observation + 1, constant, first)


def scaled_stream():
    """Return a stream of small numbers, off-policy."""
    seen = stream(60)
    ratio = 2 * torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=F64)
    return mapped(
        seen._replace(
            observation=seen.observation / 60,
            next_observation=seen.next_observation / 60,
            reward=seen.reward / 60,
            ratio=ratio.expand(2, 60),
        ),
        Tensor.float,
    )


def test_segments_are_consecutive_lie_in_the_stream_and_begin_with_a_mark():
    sampling, seen = SequenceSampling(batch=4, sequence_length=6), stream(20)
    experience = Experience(seen, None, torch.tensor([0, 1, 1]), keys(0, 3))
    starts = set()
    for update in range(200):
        times = sampling.times(experience.key, torch.tensor(update), 20)
        assert times.shape == (3, 4, 6)
        assert torch.equal(times.diff(dim=2), torch.ones(3, 4, 5, dtype=times.dtype))
        starts |= set(times[:, :, 0].flatten().tolist())
        batch = joined_segments(gather(experience, times))
        assert batch.reward.shape == (3, 24)
        assert torch.equal(batch.reward, times.flatten(1).double())
        marks = (batch.reward % 5 == 0) | (torch.arange(24) % 6 == 0)
        assert torch.equal(batch.first, marks.double())
        assert batch.observation.shape == (3, 24, STATE)
    assert starts == set(range(15))


def test_a_segment_longer_than_the_stream_is_refused():
    seen = mapped(stream(20, 1), lambda leaf: leaf[0].float())
    with pytest.raises(ValueError, match=r"^sequence_length 17 is more than the 16 transitions"):
        evaluate(seen, sampling="sequences", sequence_length=17, steps=3)
    with pytest.raises(ValueError, match="sequence_length is 0"):
        evaluate(seen, sampling="sequences", sequence_length=0, steps=3)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("name", ["tdc", "td", "tdrc", "generalized", "semi_gradient+lstd"])
def test_a_learning_body_takes_lambda_by_sequences(name, optimizer):
    seen = scaled_stream()
    options = {"rule": name, "steps": 30, "runs": 3, "optimizer": optimizer, "batch": 2}
    options["body_step"] = 0.01
    found = {
        decay: evaluate(
            seen, sampling="sequences", sequence_length=4, trace_decay=decay, **options
        ).parameters
        for decay in (0.0, 0.9)
    }
    assert all(parameters.head.isfinite().all() for parameters in found.values())
    assert not torch.equal(found[0.0].head, found[0.9].head)
    assert not torch.equal(found[0.0].body["0.weight"], found[0.9].body["0.weight"])


def test_lambda_zero_over_segments_of_one_is_evaluate_with_independent_draws():
    seen = scaled_stream()
    options = {"rule": "tdc", "steps": 30, "runs": 3, "batch": 2, "head_step": 0.1}
    one = evaluate(seen, sampling="iid", **options).parameters
    other = evaluate(
        seen, sampling="sequences", sequence_length=1, trace_decay=0.7, **options
    ).parameters
    assert torch.equal(one.head, other.head)
    assert all(torch.equal(one.body[name], other.body[name]) for name in one.body)


def test_lambda_of_one_learns_the_returns_of_whole_episodes():
    # Five states in a row, reward 1 at the last: with λ = 1 every episode tells all values at once.
    state = torch.arange(500) % 5
    one_hot = torch.eye(6, dtype=F64)
    end = state == 4
    seen = Transition(
        one_hot[state],
        end.double(),
        0.9 * (~end).double(),
        one_hot[torch.where(end, 5, state + 1)],
        torch.ones(500, dtype=F64),
        (state == 0).double(),
    )
    options = {"rule": "td", "body": None, "head_step": 0.5, "steps": 200, "runs": 2}
    found = evaluate(seen, sampling="sequences", sequence_length=9, trace_decay=1.0, **options)
    value: Tensor = found.value(one_hot[:5])
    expected = 0.9 ** torch.arange(4, -1, -1, dtype=F64)
    assert (value - expected).abs().max() < 0.02
