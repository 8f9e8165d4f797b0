"""A log of short episodes and LSTD(λ) on it by loops over time, to compare with."""

import torch

from neural_tdc.baselines.feature_blocks import block_features
from neural_tdc.types import Transition

EPISODES, LENGTH = 60, 5


def log(noise=1.0):
    """Make a log of episodes of five transitions in two dimensions, with ratios."""
    source = torch.Generator().manual_seed(1)
    time = EPISODES * LENGTH
    observation = torch.randn(time + 1, 2, generator=source, dtype=torch.float64)
    reward = observation[:-1, 0] + noise * torch.randn(time, generator=source).double()
    place = torch.arange(time) % LENGTH
    discount = torch.where(place == LENGTH - 1, 0.0, 0.9).double()
    ratio = 0.5 + torch.rand(time, generator=source).double()
    first = (place == 0).double()
    return Transition(observation[:-1], reward, discount, observation[1:], ratio, first)


def solved(stream, block, decay, ridge):
    """Return LSTD(λ) on a stream, by loops over time; the ridge leaves the constant out."""
    x = block_features([block], stream.observation)
    following = block_features([block], stream.next_observation)
    width = x.shape[1]
    A, b, z = torch.zeros(width, width).double(), torch.zeros(width).double(), 0.0
    for t in range(len(x)):
        carried = 0.0 if stream.first[t] else decay * float(stream.discount[t - 1])
        z = stream.ratio[t] * (x[t] + carried * z)
        A += torch.outer(z, x[t] - stream.discount[t] * following[t])
        b += z * stream.reward[t]
    penalty = torch.full((width,), ridge * float(x[:, :-1].square().mean()), dtype=x.dtype)
    penalty[-1] = 0
    return torch.linalg.solve(A / len(x) + penalty.diag(), b / len(x))
