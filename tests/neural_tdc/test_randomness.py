"""Draws are uniform, independent, in range, and depend on what they are told to depend on."""

import itertools

import pytest
import torch
from scipy.stats import chi2

from neural_tdc.randomness import draw, generator, keys

UPDATES, RUNS, BATCH = 2000, 6, 5


def drawn(key, updates, batch, size):
    """Return draws [update, run, batch]."""
    size = torch.tensor(size)
    return torch.stack([draw(key, torch.tensor(k), batch, size) for k in updates])


@pytest.fixture(scope="module")
def sevenths():
    return drawn(keys(11, RUNS, "sampling"), range(UPDATES), BATCH, 7)


def deviation(counts):
    """Return Pearson's statistic of counts against equal expectations."""
    counts = counts.double()
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def plausible(statistic, freedom):
    """Tell whether a chi-square statistic is neither too large nor too small to be chance."""
    return chi2.ppf(1e-5, freedom) < statistic < chi2.ppf(1 - 1e-5, freedom)


def test_a_draw_equals_the_hash_written_out_with_whole_numbers():
    largest = 0

    def times(left, right):
        nonlocal largest
        largest = max(largest, left * right)
        return left * right % 2**32

    def mix(word):
        word = times(word ^ (word >> 16), 0x21F0AAAD)
        word = times(word ^ (word >> 15), 0x735A2D97)
        return word ^ (word >> 15)

    golden = 0x61C88647
    key = keys(3, 40, "sampling")
    for update in (0, 9, 2**31 + 5, 2**40 + 3):
        got = draw(key, torch.tensor(update), 5, torch.tensor(2**31 - 1))
        for i, j in itertools.product(range(40), range(5)):
            low, high = int(key[i]) % 2**32, int(key[i]) >> 32
            stream = mix(mix((low + times(update % 2**32, golden)) % 2**32) ^ high ^ (update >> 32))
            word = mix((stream + times(j, golden)) % 2**32)
            assert int(got[i, j]) == times_size(word, 2**31 - 1)
    # No product leaves the signed range, where compiled programs are not defined.
    assert 2**62 < largest < 2**63
    assert 2**31 * (2**32 - 1) < 2**63


def times_size(word, size):
    return word * size >> 32


def test_draws_stay_in_range_and_reach_both_ends(sevenths):
    assert sevenths.shape == (UPDATES, RUNS, BATCH)
    assert sevenths.min() == 0
    assert sevenths.max() == 6


def test_draws_are_uniform(sevenths):
    assert plausible(deviation(torch.bincount(sevenths.flatten())), 6)
    for run in range(RUNS):
        assert plausible(deviation(torch.bincount(sevenths[:, run].flatten())), 6)


@pytest.mark.parametrize(
    "pair",
    [
        lambda x: (x[:-1], x[1:]),
        lambda x: (x[:-2], x[2:]),
        lambda x: (x[:, :-1], x[:, 1:]),
        lambda x: (x[..., :-1], x[..., 1:]),
        # Update k + 1 at one position against update k at the next: a counter that merely added
        # the two would draw the same number.
        lambda x: (x[1:, :, :-1], x[:-1, :, 1:]),
        lambda x: (x[:-1, :, :-1], x[1:, :, 1:]),
    ],
    ids=["next update", "second next", "next run", "next position", "diagonal", "antidiagonal"],
)
def test_draws_are_pairwise_independent(sevenths, pair):
    left, right = pair(sevenths)
    counts = torch.bincount((7 * left + right).flatten(), minlength=49)
    assert plausible(deviation(counts), 48)


def test_keys_that_lie_side_by_side_draw_independently():
    draws = drawn(torch.arange(50), range(300), 2, 6)
    assert plausible(deviation(torch.bincount(draws.flatten())), 5)
    pairs = torch.bincount((6 * draws[:, :-1] + draws[:, 1:]).flatten(), minlength=36)
    assert plausible(deviation(pairs), 35)


def test_repeated_calls_draw_the_same_numbers():
    key = keys(0, 3, "sampling")
    twice = [draw(key, torch.tensor(17), 8, torch.tensor(10**6)) for _ in range(2)]
    assert torch.equal(*twice)
    assert not torch.equal(twice[0], draw(key, torch.tensor(18), 8, torch.tensor(10**6)))


def test_a_run_draws_the_same_whatever_the_population_and_the_batch():
    many = draw(keys(5, 9, "sampling"), torch.tensor(2), 6, torch.tensor(10**9))
    few = draw(keys(5, 4, "sampling"), torch.tensor(2), 3, torch.tensor(10**9))
    assert torch.equal(many[:4, :3], few)


def test_only_one_number_can_be_drawn_from_one():
    assert (draw(keys(0, 2), torch.tensor(5), 4, torch.tensor(1)) == 0).all()


def test_a_large_range_is_filled_evenly():
    draws = drawn(keys(1, 4), range(500), 4, 2**30)
    assert plausible(deviation(torch.bincount((draws >> 27).flatten(), minlength=8)), 7)
    assert plausible(deviation(torch.bincount((draws & 7).flatten(), minlength=8)), 7)


def test_a_key_depends_on_seed_path_and_place_only():
    assert torch.equal(keys(4, 9, "a", 2)[:3], keys(4, 3, "a", 2))
    different = torch.cat(
        [keys(4, 3, "a", 2), keys(5, 3, "a", 2), keys(4, 3, "b", 2), keys(4, 3, "a", 3), keys(4, 3)]
    )
    assert len(different.unique()) == 15
    assert bool((different >= 0).all())


def test_a_generator_has_one_purpose():
    def first(*path):
        return torch.rand(3, generator=generator(*path), dtype=torch.float64).tolist()

    assert first(0, "stream", 7) == first(0, "stream", 7)
    others = [first(0, "stream", 8), first(1, "stream", 7), first(0, "body", 7), first(0, "stream")]
    assert first(0, "stream", 7) not in others


def test_a_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(3, "body"))
    assert torch.equal(torch.get_rng_state(), before)
