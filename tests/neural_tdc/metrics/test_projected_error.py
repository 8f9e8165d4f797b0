"""RMSPBE from transitions has no bias from pairing a transition with itself or its neighbours."""

import pytest
import torch

from neural_tdc.metrics.projected_error import projected_floor, projected_noise, update_covariance
from neural_tdc.metrics.value_errors import solve_symmetric, spectrum

F64 = torch.float64


def random(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_one_feature_by_hand():
    """Blocks sum to 1 and 2, of weight ½ each: the two pairs of blocks give 2·1·2/(1 − ½) = 8."""
    features = torch.tensor([[1.0], [1.0], [2.0], [2.0]], dtype=F64)
    td_error = torch.tensor([1.0, 3.0, 1.0, 3.0], dtype=F64)
    one = torch.ones(4, dtype=F64)
    S = update_covariance(features, td_error, one, one / 4, block=2)
    # C = (1 + 1 + 4 + 4)/4 = 2.5, b = 3.
    C = spectrum(torch.tensor([[2.5]], dtype=F64))
    assert float(S) == pytest.approx((1 + 4 - 9 / 2) / (1 / 2))
    assert 9 / 2.5 - float(projected_noise(C, S)) == pytest.approx(8 / 2.5)
    # With one eigenvalue it is χ² with one degree of freedom, 3.84 in 95 of 100, less its mean 1.
    floor = float(projected_floor(C, S)) ** 2
    assert floor == pytest.approx((3.8415 - 1) * float(S) / 2.5, rel=0.05)


@pytest.mark.parametrize("block", [1, 3, 5])
def test_the_estimate_is_the_mean_over_pairs_of_different_blocks(block):
    """Unequal weights, ratios, a last block that is shorter, and a C of rank 2 of 3."""
    rows, d = 14, 3
    phi, delta = random(rows, d), random(rows, seed=1)
    ratio, weight = random(rows, seed=2).exp(), random(rows, seed=3).exp()
    weight = weight / weight.sum()
    plane = random(d, 2, seed=4)
    C = plane @ plane.T
    inverse = torch.linalg.pinv(C, hermitian=True)
    total, pairs = 0.0, 0.0
    for i in range(rows):
        for j in range(rows):
            if i // block != j // block:
                share = weight[i] * weight[j]
                x, y = (ratio[k] * delta[k] * phi[k] for k in (i, j))
                total, pairs = total + share * (x @ inverse @ y), pairs + share
    b = (weight * ratio * delta) @ phi
    S = update_covariance(phi, delta, ratio, weight, block)
    found = b @ solve_symmetric(spectrum(C), b) - projected_noise(spectrum(C), S)
    torch.testing.assert_close(found, total / pairs, rtol=1e-12, atol=1e-13)


def test_one_block_says_nothing_of_the_noise():
    one = torch.ones(1, dtype=F64)
    S = update_covariance(random(1, 2), random(1), one, one)
    assert S.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert float(projected_floor(spectrum(torch.eye(2, dtype=F64)), S)) == 0


def simulated(mean, rows=60, samples=4_000):
    """Return [plug-in, corrected, floor²] of samples; neighbours in blocks of 4 are correlated.

    C is known and b = mean; the noise of x within a block has a common part.
    """
    d = len(mean)
    root = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.2, -0.3, 0.6]], dtype=F64)
    C = spectrum(root @ root.T)
    weight = torch.arange(1, rows + 1, dtype=F64)
    weight = weight / weight.sum()
    common = random(samples, rows // 4, d).repeat_interleave(4, 1)
    # x itself takes the place of δφ: δ = 1.
    x = mean + (common + random(samples, rows, d, seed=1)) @ root.T
    one = torch.ones(rows, dtype=F64)

    def of(x):
        b = weight @ x
        plug_in = b @ solve_symmetric(C, b)
        parts = []
        for block in (1, 4):
            S = update_covariance(x, one, one, weight, block)
            parts += [plug_in - projected_noise(C, S), projected_floor(C, S).square()]
        return torch.stack([plug_in, *parts])

    return torch.vmap(of)(x).T, float(mean @ solve_symmetric(C, mean))


@pytest.mark.parametrize("mean", [[0.0, 0.0, 0.0], [0.4, -0.2, 0.3]])
def test_simulated_estimates_are_right_on_average(mean):
    found, truth = simulated(torch.tensor(mean, dtype=F64))
    error = found.std(1) / found.shape[1] ** 0.5
    plug_in, alone, _, blocks, _ = ((found.mean(1) - truth) / error).tolist()
    assert abs(blocks) < 3
    # With itself a transition makes the plug-in too large; so do its neighbours the pairs of all.
    assert plug_in > 10
    assert alone > 8


def test_a_true_zero_is_above_the_floor_in_one_of_twenty_samples():
    (_, _, _, blocks, floor), _ = simulated(torch.zeros(3, dtype=F64))
    assert 0.03 < float((blocks > floor).double().mean()) < 0.07
    assert 0.4 < float((blocks < 0).double().mean()) < 0.7
