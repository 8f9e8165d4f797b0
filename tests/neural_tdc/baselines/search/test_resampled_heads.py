"""Values at the starts on resampled logs, against LSTD that is solved on every resample."""

import pytest
import torch

from neural_tdc.baselines.candidates import Folds, least_squares_group
from neural_tdc.baselines.feature_blocks import block_features
from neural_tdc.baselines.log_preparation import parts_of
from neural_tdc.baselines.random_features import random_tanh
from neural_tdc.baselines.search import resampled_heads
from neural_tdc.baselines.search.resampled_heads import start_values
from neural_tdc.baselines.value_range import ValueRange
from neural_tdc.learning.resampling import resampling_counts
from neural_tdc.types import mapped
from tests.neural_tdc.baselines.looped_lstd import EPISODES, LENGTH, log, solved

RESAMPLES, SEED = 7, 4


def groups_of(stream, decay, ridge):
    parts = parts_of(stream, 2)
    # Both folds learn from everything, so that the mean over folds is one solution.
    folds = Folds(parts, [[0, 1], [0, 1]])
    block = random_tanh(2, 4, 1.0, torch.Generator().manual_seed(2))
    blocks = [block]
    return [least_squares_group("lstd-random", folds, [blocks] * 2, [decay], [ridge])], folds, block


@pytest.mark.parametrize("decay", [0.0, 0.8])
def test_a_resample_moves_the_start_value_as_solving_anew_does_to_first_order(decay):
    stream = log()
    groups, folds, block = groups_of(stream, decay, 1e-2)
    found, drawn = start_values(groups, torch.ones(1).double(), folds, stream, RESAMPLES, SEED)
    assert drawn == "60 episodes"
    number = torch.arange(EPISODES).repeat_interleave(LENGTH)
    counts = resampling_counts(number, RESAMPLES, SEED)
    expected = []
    for resample in range(RESAMPLES):
        order = torch.arange(EPISODES).repeat_interleave(counts[resample].long())
        rows = (order[:, None] * LENGTH + torch.arange(LENGTH)).flatten()
        again = mapped(stream, lambda leaf, rows=rows: leaf[rows])
        starts = block_features([block], again.observation[again.first > 0])
        expected.append(float((starts @ solved(again, block, decay, 1e-2)).mean()))
    expected = torch.tensor(expected).double()
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    moved, wanted = found[1:] - found[0], expected[1:] - expected[0]
    # What is left out is of second order: a part of a movement that is itself small.
    assert float((moved - wanted).norm() / wanted.norm()) < 0.25
    assert float(torch.corrcoef(torch.stack([moved, wanted]))[0, 1]) > 0.97


def test_one_episode_twice_is_what_a_longer_log_gives(monkeypatch):
    stream = log()
    groups, folds, block = groups_of(stream, 0.5, 1e-2)
    counts = torch.ones(2, EPISODES).double()
    counts[1, 0] = 2
    monkeypatch.setattr(resampled_heads, "resampling_counts", lambda *_: counts)
    found, _ = start_values(groups, torch.ones(1).double(), folds, stream, 2, SEED)
    longer = mapped(stream, lambda leaf: torch.cat([leaf, leaf[:LENGTH]]))
    exact = [
        float((block_features([block], each.observation[each.first > 0]) @ head).mean())
        for each in (stream, longer)
        for head in [solved(each, block, 0.5, 1e-2)]
    ]
    assert float(found[1] - found[0]) == pytest.approx(exact[1] - exact[0], rel=0.1)


def test_without_resamples_it_is_the_mean_value_over_the_starts():
    stream = log()
    groups, folds, block = groups_of(stream, 0.0, 1e-3)
    found, drawn = start_values(groups, torch.ones(1).double(), folds, stream, 1, SEED)
    starts = block_features([block], stream.observation[stream.first > 0])
    assert drawn == ""
    assert found.shape == (1,)
    assert float(found) == pytest.approx(float((starts @ groups[0].head[0, 0]).mean()))


def test_candidates_without_a_weight_play_no_part():
    stream = log()
    groups, folds, _ = groups_of(stream, 0.0, 1e-3)
    broken = groups[0]._replace(head=torch.full_like(groups[0].head, torch.nan))
    weights = torch.tensor([1.0, 0.0]).double()
    found, _ = start_values([groups[0], broken], weights, folds, stream, 4, SEED)
    alone, _ = start_values(groups, weights[:1], folds, stream, 4, SEED)
    assert torch.equal(found, alone)


def test_values_of_starts_are_within_the_limits():
    stream = log()
    groups, folds, block = groups_of(stream, 0.0, 1e-3)
    limits = ValueRange(-0.5, 0.25)
    found, _ = start_values(groups, torch.ones(1).double(), folds, stream, 1, SEED, limits)
    starts = block_features([block], stream.observation[stream.first > 0])
    expected = (starts @ groups[0].head[0, 0]).clamp(*limits)
    assert 0 < int((expected == limits.high).sum()) < len(expected)
    assert float(found) == pytest.approx(float(expected.mean()))
