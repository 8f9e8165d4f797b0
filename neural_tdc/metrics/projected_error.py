"""The projected Bellman error from a finite number of transitions, and its noise.

With x_i = ρ_iδ_iφ_i, weights w_i that sum to 1 and b = Σw_ix_i, the plug-in bᵀC⁺b also contains
each x_i paired with itself and so is too large by tr(C⁺S), S the covariance of b. The mean over
pairs of different transitions, Σ_{i≠j}w_iw_jx_iᵀC⁺x_j / (1 − Σw²), has no such bias if they are
independent. Neighbours in a stream are not: their δ are correlated, except where V is the truth. So
the pairs taken are those of different blocks of consecutive transitions. With b_B the sum of a
block and W_B its weight, (bᵀC⁺b − Σb_BᵀC⁺b_B)/(1 − ΣW_B²) = bᵀC⁺b − tr(C⁺S) with the S of
`update_covariance`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.metrics.value_errors import CUT, Spectrum

# The standard normal is below it in 95 % of draws.
_NORMAL_95 = 1.6448536


def update_covariance(
    features: Float[Tensor, "row d"],
    td_error: Float[Tensor, " row"],
    ratio: Float[Tensor, " row"],
    weight: Float[Tensor, " row"],
    block: int | None = None,
) -> Float[Tensor, "d d"]:
    """Return the covariance of b = Σw_ix_i, as (Σb_Bb_Bᵀ − ΣW_B²·bbᵀ)/(1 − ΣW_B²) over blocks.

    weight: sums to 1
    block:  number of consecutive rows in a block; row^(2/3) if not given. With √row more bias
            is left on CartPole, where errors are correlated over a whole episode
    Unbiased if rows of different blocks are independent. 0 of a single block, which says nothing
    of it.
    """
    length = block or block_length(len(weight))
    sums = update_sums(features, td_error, ratio, weight, length)
    return covariance_of_sums(sums, weight, length)


def block_length(rows: int) -> int:
    """Return how many consecutive rows of held-out transitions make a block."""
    return max(1, round(rows ** (2 / 3)))


def update_sums(
    features: Float[Tensor, "row d"],
    td_error: Float[Tensor, " row"],
    ratio: Float[Tensor, " row"],
    weight: Float[Tensor, " row"],
    length: int,
) -> Float[Tensor, "block d"]:
    """Return the sums of w_ix_i over blocks of `length` rows, of which the last may be shorter."""
    factors = (weight * ratio * td_error).split(length)
    return torch.stack([each @ feature for each, feature in zip(factors, features.split(length))])


def covariance_of_sums(
    sums: Float[Tensor, "block d"], weight: Float[Tensor, " row"], length: int
) -> Float[Tensor, "d d"]:
    """Return the covariance of b from the sums of its blocks, see `update_covariance`."""
    shares = torch.stack([share.sum() for share in weight.split(length)])
    b, squares = sums.sum(0), shares.square().sum()
    several = 1 - squares > CUT
    between = sums.mT @ sums - squares * torch.outer(b, b)
    return torch.where(several, between / torch.where(several, 1 - squares, 1.0), 0.0)


def _in_values(of: Spectrum, covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Return the matrix C^(−½)SC^(−½), in the eigenvectors of C."""
    kept = of.values > CUT * of.values[-1]
    root = torch.where(kept, torch.where(kept, of.values, 1.0).rsqrt(), 0.0)
    turned = of.vectors.mT @ covariance @ of.vectors
    return turned * root[:, None] * root


def projected_noise(of: Spectrum, covariance: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return tr(C⁺S), what the noise of b adds to bᵀC⁺b, in squared units of value."""
    return _in_values(of, covariance).diagonal().sum()


def projected_floor(of: Spectrum, covariance: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return what the RMSPBE without that bias shows at most in 95 of 100 samples if it is 0.

    In units of value. bᵀC⁺b is then a weighted sum of χ² with the eigenvalues of C⁺S as weights;
    its quantile is that of a scaled χ² with the same mean and variance (Satterthwaite 1946), by
    Wilson and Hilferty's cube.
    """
    spread = _in_values(of, covariance)
    mean, squares = spread.diagonal().sum(), spread.square().sum()
    some = squares > 0
    size, squares = torch.where(some, mean, 1.0), torch.where(some, squares, 1.0)
    degrees = size.square() / squares
    small = 2 / (9 * degrees)
    quantile = (1 - small + _NORMAL_95 * small.sqrt()) ** 3 - 1
    return torch.where(some, (size * quantile).clamp(min=0).sqrt(), 0.0)
