"""Simulated errors, against LSTD that is solved by loops on the simulated rewards."""

import pytest
import torch

from neural_tdc.baselines.candidates import CandidateGroup, Folds, least_squares_group
from neural_tdc.baselines.feature_blocks import block_features
from neural_tdc.baselines.log_preparation import joined, parts_of
from neural_tdc.baselines.random_features import random_tanh
from neural_tdc.baselines.search import simulated_errors as module
from neural_tdc.baselines.search.simulated_errors import simulated_errors
from neural_tdc.randomness import generator
from tests.neural_tdc.baselines.looped_lstd import log, solved

SEED, DECAYS, RIDGES = 5, (0.0, 0.8), (1e-3, 1e-1)
BLOCK = random_tanh(2, 4, 1.0, torch.Generator().manual_seed(2))


def candidates(stream):
    parts = parts_of(stream, 2)
    folds = Folds(parts, [[1], [0]])
    blocks = [BLOCK]
    return least_squares_group("any", folds, [blocks] * 2, DECAYS, RIDGES), folds


def sine(state):
    return state[:, 0].sin()


def test_they_are_the_distances_of_lstd_on_the_simulated_rewards():
    stream = log()
    group, folds = candidates(stream)
    whole, time = joined(folds.parts), len(stream.reward)
    td_error = torch.randn(time, generator=torch.Generator().manual_seed(6)).double()
    found = simulated_errors([group], folds, sine, td_error, SEED)
    signs = 2 * torch.randint(
        0, 2, (time, module._DRAWS), generator=generator(SEED, "simulated errors")
    )
    value, following = sine(whole.observation), sine(whole.next_observation)
    expected = []
    for decay in DECAYS:
        for ridge in RIDGES:
            squares = []
            for sign in (signs - 1).T:
                reward = value - whole.discount * following + sign * td_error
                heads = []
                for part, rows in zip(
                    folds.parts, reward.split([len(p.reward) for p in folds.parts])
                ):
                    heads.append(solved(part._replace(reward=rows), BLOCK, decay, ridge))
                mean = block_features([BLOCK], whole.observation) @ torch.stack(heads).mean(0)
                squares.append((mean - value).square().mean())
            expected.append(torch.stack(squares).mean())
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=0)


def test_without_noise_a_value_in_the_span_of_the_features_is_found_again():
    group, folds = candidates(log())
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0, 4.0], dtype=torch.float64)

    def spanned(state):
        return block_features([BLOCK], state) @ weight

    exact = least_squares_group("any", folds, group.blocks, DECAYS, (0.0, 1e-1))
    found = simulated_errors([exact], folds, spanned, torch.zeros(300).double(), SEED)
    assert found.view(2, 2)[:, 0].tolist() == pytest.approx([0, 0], abs=1e-18)
    assert float(found.view(2, 2)[:, 1].min()) > 1e-3


def test_a_head_that_was_not_solved_has_an_infinite_error():
    group, folds = candidates(log())
    learned = CandidateGroup("fitted", [{"lambda": 1.0}], group.blocks, group.head[:, :1])
    found = simulated_errors([learned, group], folds, sine, torch.ones(300).double(), SEED)
    assert found[0] == torch.inf
    assert bool(found[1:].isfinite().all())
