"""Sampling schemes: ways to index the same tensors, and how many transitions each needs."""

import pytest
import torch
from scipy.stats import chi2

from neural_tdc.learning.experience import Experience, gather
from neural_tdc.learning.sampling import (
    SAMPLINGS,
    IidSampling,
    MarkovSampling,
    ReplaySampling,
    SequenceSampling,
    follows_stream,
    in_segments,
    sampling_scheme,
    scheme_options,
)
from neural_tdc.randomness import keys
from neural_tdc.types import Transition

RUNS, STREAMS, LENGTH, WIDTH = 5, 3, 11, 2


def times(sampling, update, length=LENGTH, key=None):
    key = keys(0, RUNS, "sampling") if key is None else key
    return sampling.times(key, torch.tensor(update), length)


def streams(first=True):
    """Make streams whose every number tells its stream and time: stream · 100 + time."""
    number = 100.0 * torch.arange(STREAMS)[:, None] + torch.arange(LENGTH)
    observation = torch.stack([number, -number], -1)
    return Transition(
        observation,
        number + 0.25,
        number + 0.5,
        observation + 1,
        number + 0.75,
        (number % 4 == 0).float() if first else None,
    )


def test_the_samplings_have_these_names():
    assert tuple(SAMPLINGS) == ("markov", "iid", "replay", "sequences")


def test_markov_order_is_the_streams_own():
    seen = [times(MarkovSampling(), update).tolist() for update in range(4)]
    assert seen == [[[0]] * RUNS, [[1]] * RUNS, [[2]] * RUNS, [[3]] * RUNS]


def test_markov_order_begins_again_at_the_streams_end():
    seen = [int(times(MarkovSampling(), update)[0]) for update in (9, 10, 11, 12, 22)]
    assert seen == [9, 10, 0, 1, 0]


def test_a_markov_batch_is_the_next_block():
    sampling = MarkovSampling(batch=4)
    seen = [times(sampling, update)[-1].tolist() for update in range(4)]
    # The third block runs over the end, and the fourth goes on from there.
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0], [1, 2, 3, 4]]


def test_a_late_markov_update_still_knows_its_place():
    assert int(times(MarkovSampling(), 10**12)[0]) == 10**12 % LENGTH


def test_independent_draws_cover_the_whole_stream_evenly_from_the_first_update_on():
    draws = torch.stack([times(IidSampling(batch=4), update) for update in range(600)])
    assert draws.shape == (600, RUNS, 4)
    counts = torch.bincount(draws.flatten(), minlength=LENGTH).double()
    assert len(counts) == LENGTH
    statistic = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert chi2.ppf(1e-5, LENGTH - 1) < statistic < chi2.ppf(1 - 1e-5, LENGTH - 1)
    early = torch.bincount(draws[:40].flatten(), minlength=LENGTH)
    assert bool((early > 0).all())


@pytest.mark.parametrize("window", [0, 4])
def test_replay_draws_all_that_was_seen_and_kept_and_nothing_else(window):
    sampling = ReplaySampling(batch=60, replay_window=window)
    for update in range(LENGTH + 4):
        last = min(update, LENGTH - 1)
        earliest = max(0, last - window + 1) if window else 0
        drawn = times(sampling, update).unique().tolist()
        assert drawn == list(range(earliest, last + 1))


def test_replay_draws_evenly_from_its_window():
    draws = torch.stack(
        [times(ReplaySampling(8, 6), update, length=400) - update for update in range(50, 250)]
    )
    counts = torch.bincount(-draws.flatten(), minlength=6).double()
    assert len(counts) == 6
    statistic = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert chi2.ppf(1e-5, 5) < statistic < chi2.ppf(1 - 1e-5, 5)


@pytest.mark.parametrize("kind", ["iid", "replay"])
def test_runs_that_share_a_key_see_the_same_transitions_and_others_do_not(kind):
    key = keys(2, 3, "sampling")[[0, 1, 0, 2, 1]]
    drawn = times(sampling_scheme(kind, batch=6), 1000, length=500, key=key)
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[4])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[3])


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_a_runs_indices_do_not_depend_on_the_other_runs(kind):
    key = keys(0, RUNS, "sampling")
    together = times(sampling_scheme(kind, batch=3), 7, key=key)
    for run in range(RUNS):
        alone = times(sampling_scheme(kind, batch=3), 7, key=key[run : run + 1])
        assert torch.equal(alone[0], together[run])


def test_gather_takes_every_field_from_the_runs_own_stream():
    stream_index = torch.tensor([2, 0, 2, 1])
    experience = Experience(streams(), None, stream_index, keys(0, 4))
    index = torch.tensor([[0, 5, 10], [1, 1, 2], [7, 8, 9], [4, 3, 0]])
    batch = gather(experience, index)
    number = 100.0 * stream_index[:, None] + index
    assert torch.equal(batch.observation, torch.stack([number, -number], -1))
    assert torch.equal(batch.next_observation, torch.stack([number, -number], -1) + 1)
    assert torch.equal(batch.reward, number + 0.25)
    assert torch.equal(batch.discount, number + 0.5)
    assert torch.equal(batch.ratio, number + 0.75)
    assert torch.equal(batch.first, (number % 4 == 0).float())
    assert batch.observation.shape == (4, 3, WIDTH)


def test_gather_leaves_out_the_starts_where_the_streams_have_none():
    experience = Experience(streams(first=False), None, torch.tensor([1]), keys(0, 1))
    assert gather(experience, torch.tensor([[3, 4]])).first is None


def test_gather_looks_row_numbers_up_in_the_table():
    table = torch.arange(24.0).view(4, 3, 2)
    rows = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]])
    number = torch.ones(2, 4)
    transitions = Transition(rows, number, number, rows.flip(1), number)
    experience = Experience(transitions, table, torch.tensor([1, 0, 1]), keys(0, 3))
    batch = gather(experience, torch.tensor([[0, 2], [3, 3], [1, 0]]))
    assert torch.equal(batch.observation, table[torch.tensor([[3, 1], [3, 3], [3, 3]])])
    assert torch.equal(batch.next_observation, table[torch.tensor([[0, 3], [0, 0], [1, 0]])])
    assert batch.observation.shape == (3, 2, 3, 2)


def test_gather_keeps_the_time_axis_of_segments():
    stream_index = torch.tensor([2, 0])
    experience = Experience(streams(), None, stream_index, keys(0, 2))
    begin = torch.tensor([[0, 3, 7], [8, 1, 4]])
    batch = gather(experience, begin[:, :, None] + torch.arange(2))
    number = 100.0 * stream_index[:, None, None] + begin[:, :, None] + torch.arange(2)
    assert torch.equal(batch.reward, number + 0.25)
    assert torch.equal(batch.observation, torch.stack([number, -number], -1))
    assert batch.observation.shape == (2, 3, 2, WIDTH)


def test_gather_looks_the_rows_of_segments_up_in_the_table():
    table = torch.arange(24.0).view(4, 3, 2)
    rows = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]])
    number = torch.ones(2, 4)
    experience = Experience(
        Transition(rows, number, number, rows, number), table, torch.tensor([1]), keys(0, 1)
    )
    batch = gather(experience, torch.tensor([[[0, 1], [1, 2], [2, 3]]]))
    assert torch.equal(batch.observation, table[torch.tensor([[[3, 3], [3, 1], [1, 0]]])])


@pytest.mark.parametrize(
    ("sampling", "transitions"),
    [
        (MarkovSampling(3), 30),
        (IidSampling(3), 10),
        (ReplaySampling(3, 4), 10),
        (SequenceSampling(3, 4), 10),
    ],
)
def test_a_scheme_knows_how_many_transitions_its_updates_need(sampling, transitions):
    assert sampling.transitions(10) == transitions
    # The last update takes none beyond them, and in order or replay it takes the very last.
    last = times(sampling, 9, length=transitions)
    assert int(last.max()) <= transitions - 1


def test_only_independent_draws_depend_on_the_length_of_the_stream():
    for name in SAMPLINGS:
        sampling = sampling_scheme(name, batch=3)
        short, long = (times(sampling, 5, length=length) for length in (30, 3000))
        assert sampling.depends_on_length is not torch.equal(short, long)


def test_only_the_stream_in_its_order_and_one_by_one_is_followed():
    assert follows_stream(MarkovSampling())
    assert not any(map(follows_stream, (MarkovSampling(2), IidSampling(), ReplaySampling())))


def test_only_sequences_are_made_of_segments():
    schemes = [sampling_scheme(name, batch=2, sequence_length=3) for name in SAMPLINGS]
    assert [in_segments(scheme) for scheme in schemes] == [False, False, False, True]


def test_options_that_a_scheme_does_not_have_are_left_to_others():
    assert sampling_scheme("markov", batch=2, replay_window=3) == MarkovSampling(2)
    assert sampling_scheme("replay", batch=2, replay_window=3) == ReplaySampling(2, 3)
    assert sampling_scheme("sequences", batch=2, sequence_length=3) == SequenceSampling(2, 3)
    assert scheme_options() == {"replay_window": ["replay"], "sequence_length": ["sequences"]}


def test_a_scheme_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="sampling 'all' is not one of markov, iid, replay"):
        sampling_scheme("all")
