"""Resampling a log: units, rows, counts, and what a run gathers and learns from them."""

import math

import pytest
import torch

from neural_tdc.compiled.blocks import in_blocks
from neural_tdc.learning.experience import Experience, gather
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.resampling import (
    data_interval,
    merged_units,
    resampled_rows,
    resampling_counts,
    resampling_units,
)
from neural_tdc.learning.sampling import IidSampling, MarkovSampling, SequenceSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, Transition, mapped

# Thirty episodes of 1, 2, 3 or 4 transitions in turn.
LENGTHS = [1 + episode % 4 for episode in range(30)]
TIME = sum(LENGTHS)


def log(lengths, gamma=0.9):
    """Make a log of terminated episodes, with three features and a value that can be learned."""
    time = sum(lengths)
    first, discount = torch.zeros(time), torch.full((time,), gamma)
    begin = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
    first[begin] = 1
    discount[begin + torch.tensor(lengths) - 1] = 0
    source = torch.Generator().manual_seed(3)
    observation = torch.randn(time + 1, 3, generator=source)
    reward = torch.randn(time, generator=source)
    return Transition(observation[:-1], reward, discount, observation[1:], torch.ones(time), first)


def experience(runs, seed=0, lengths=LENGTHS):
    stream = log(lengths)
    rows = resampled_rows(resampling_units(stream).number, runs, seed)
    streams = mapped(stream, lambda leaf: leaf[None])
    key = keys(seed, runs, "sampling")
    return Experience(streams, None, torch.zeros(runs, dtype=torch.int64), key, rows=rows)


def test_units_are_episodes_where_there_are_many():
    units = resampling_units(log(LENGTHS))
    assert (units.kind, units.unit_count, str(units)) == ("episodes", 30, "30 episodes")
    assert units.number.tolist()[:7] == [0, 1, 1, 2, 2, 2, 3]


def test_few_long_episodes_are_cut_into_blocks_of_four_times_the_horizon():
    stream = log([100, 50])
    units = resampling_units(stream)
    # 4/(1 − 0.9) is 40: blocks of 40, 40 and 20, then of 40 and 10.
    assert units.kind == "blocks"
    assert torch.bincount(units.number).tolist() == [40, 40, 20, 40, 10]


def test_few_short_episodes_stay_whole():
    units = resampling_units(log([3, 2]))
    assert (units.kind, units.unit_count) == ("episodes", 2)


def test_one_episode_cannot_be_resampled():
    with pytest.raises(ValueError, match="holds one episode of 5 transitions") as caught:
        resampling_units(log([5]))
    assert "\n" not in str(caught.value)


def test_run_0_has_the_log_as_it_is_and_the_others_whole_episodes_of_it():
    number = resampling_units(log(LENGTHS)).number
    rows = resampled_rows(number, 5, 7)
    assert rows.shape == (5, TIME)
    assert torch.equal(rows[0], torch.arange(TIME))
    begin = torch.tensor(LENGTHS).cumsum(0) - torch.tensor(LENGTHS)
    for row in rows[1:]:
        at = 0
        while at < TIME:
            unit = int(number[row[at]])
            left = min(LENGTHS[unit], TIME - at)
            assert row[at : at + left].tolist() == list(range(begin[unit], begin[unit] + left))
            at += left


def test_rows_of_a_run_depend_on_the_seed_and_its_number_only():
    number = resampling_units(log(LENGTHS)).number
    few, many = resampled_rows(number, 3, 7), resampled_rows(number, 6, 7)
    assert torch.equal(few, many[:3])
    assert not torch.equal(few[1], few[2])
    assert not torch.equal(few[1], resampled_rows(number, 3, 8)[1])


def test_episodes_are_drawn_evenly():
    number = torch.arange(10).repeat_interleave(3)
    rows = resampled_rows(number, 4_001, 0)[1:]
    shares = torch.bincount(number[rows].flatten()).double() / rows.numel()
    # 40,000 draws: a share of 0.1 has a standard error of 0.0015.
    assert float((shares - 0.1).abs().max()) < 0.006


def test_counts_are_multinomial_and_the_first_resample_is_the_log():
    counts = resampling_counts(torch.arange(6).repeat_interleave(2), 3_000, 1)
    assert counts[0].tolist() == [1.0] * 6
    assert bool((counts.sum(1) == 6).all())
    # A multinomial count of 6 draws from 6 has the variance 6 · 1/6 · 5/6.
    assert float(counts[1:].var(0).mean()) == pytest.approx(5 / 6, rel=0.05)


def test_neighbouring_units_are_joined_evenly():
    number = torch.arange(7).repeat_interleave(torch.tensor([1, 2, 1, 1, 3, 1, 1]))
    assert torch.bincount(merged_units(number, 3)).tolist() == [4, 4, 2]
    assert torch.equal(merged_units(number, 7), number)


def test_a_run_gathers_its_own_rows_and_a_start_where_episodes_are_joined():
    seen = experience(4)
    time = torch.arange(TIME)
    batch = gather(seen, time.expand(4, TIME))
    for run, rows in enumerate(seen.rows):
        assert torch.equal(batch.reward[run], seen.transitions.reward[0, rows])
        assert torch.equal(batch.next_observation[run], seen.transitions.next_observation[0, rows])
        follows = torch.zeros(TIME, dtype=torch.bool)
        follows[1:] = rows[1:] == rows[:-1] + 1
        expected = torch.where(follows, seen.transitions.first[0, rows], 1.0)
        assert torch.equal(batch.first[run], expected)


def test_blocks_of_one_episode_begin_with_a_start_in_segments_too():
    stream = log([120])._replace(first=None)
    rows = resampled_rows(resampling_units(stream).number, 3, 0)
    streams = mapped(stream, lambda leaf: leaf[None])
    seen = Experience(streams, None, torch.zeros(3, dtype=torch.int64), keys(0, 3), rows=rows)
    index = (torch.tensor([38, 79])[:, None] + torch.arange(4)).expand(3, 2, 4)
    first = gather(seen, index).first
    assert first.shape == (3, 2, 4)
    assert first[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    for run in (1, 2):
        jump = rows[run, index[run]] != rows[run, index[run] - 1] + 1
        assert torch.equal(first[run] > 0, jump)


def learned(seen, runs, rule="td", sampling=None):
    sampling = sampling or MarkovSampling()
    example = seen.transitions.observation[0].double()
    algorithm, state = prepare(RULES[rule], None, example, runs=runs, seed=0)
    double = mapped(seen.transitions, lambda leaf: leaf.double())
    *_, last = learn(
        algorithm,
        state,
        seen._replace(transitions=double),
        base_steps(algorithm.rule, StepSizes(0.0, 0.05, 0.05), runs, example),
        schedule("constant"),
        sampling,
        lambda parameters: {},
        steps=100,
        measured=[1, 100],
        limit=divergence_limit(state.parameters),
    )
    return last.state.parameters.head


@pytest.mark.parametrize("sampling", [MarkovSampling(), IidSampling(3), SequenceSampling(2, 3)])
def test_run_0_learns_the_bits_of_a_run_without_resampling(sampling):
    seen = experience(3)
    plain = learned(seen._replace(rows=None), 3, sampling=sampling)
    resampled = learned(seen, 3, sampling=sampling)
    assert torch.equal(plain[0], resampled[0])
    assert not torch.allclose(resampled[1], resampled[0])


def test_a_run_learns_what_it_would_from_a_log_of_its_rows():
    seen = experience(3)
    resampled = learned(seen, 3)
    for run in range(3):
        rows = seen.rows[run]
        own = mapped(seen.transitions, lambda leaf, rows=rows: leaf[:, rows])
        alone = seen._replace(transitions=own, rows=None)
        torch.testing.assert_close(learned(alone, 3)[run], resampled[run], rtol=1e-12, atol=0)


def test_the_blocks_of_a_population_hold_the_rows_of_their_runs():
    rows = torch.arange(12).view(4, 3)
    first, second = in_blocks({"rows": rows}, 2)
    assert torch.equal(first["rows"], rows[:2])
    assert torch.equal(second["rows"], rows[2:])


def test_the_interval_is_students_t_around_the_value_of_the_log_itself():
    found = data_interval(torch.tensor([5.0, 1.0, 2.0, 3.0, math.nan]))
    # Three resamples with deviation 1: t of 2 degrees of freedom is 4.303.
    assert found.mean == 5
    assert found.low == pytest.approx(5 - 4.3027, abs=1e-3)
    assert found.high == pytest.approx(5 + 4.3027, abs=1e-3)


@pytest.mark.parametrize("values", [[1.0, 2.0], [math.nan, 1.0, 2.0, 3.0], [1.0, math.nan, 2.0]])
def test_there_is_no_interval_of_too_few_resamples_or_a_diverged_run_0(values):
    found = data_interval(torch.tensor(values))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
