"""Segments with ends and cuts inside, and the errors δ^λ by their recursion."""

import torch

from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, Transition

STATE, FEATURE, PSI = 3, 4, 7
F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(seed=0):
    """Make a body, a head and auxiliary vectors in float64, none of them 0."""
    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, (6,)).double()
    body = {name: 2 * p.detach() for name, p in module.named_parameters()}
    names = ("tdc", "tdrc", "htd")
    auxiliary = {name: draw(FEATURE, seed=seed + i) for i, name in enumerate(names, 2)}
    auxiliary["generalized"] = draw(PSI, seed=seed + 9)
    return feature_map(module), Parameters(body, draw(FEATURE, seed=seed + 1), auxiliary)


def segments(off_policy=True, seed=0):
    """Return three segments of 6, 3 and 4 transitions, one after another.

    The first has a termination inside, the second a cut by a time limit, the last an end at once.
    """
    count = 13
    observation = draw(count, STATE, seed=seed)
    # Where transition k+1 continues k, they share the observation between them.
    following = torch.cat([observation[1:], draw(1, STATE, seed=seed + 1)])
    discount = torch.full((count,), 0.9, dtype=F64)
    first = torch.zeros(count, dtype=F64)
    first[[0, 6, 9]] = 1
    discount[[2, 9]] = 0
    first[[3, 10]] = 1
    first[8] = 1
    for cut in (2, 5, 7, 8, 9):
        following[cut] = draw(STATE, seed=seed + cut)
    ratio = torch.ones(count, dtype=F64)
    if off_policy:
        ratio = 2 * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return Transition(observation, draw(count, seed=seed + 20), discount, following, ratio, first)


def with_lambda(name, decay, **settings):
    return RULES[name].with_settings(**settings).with_lambda_returns(decay)


def close(left, right, tolerance=1e-10):
    assert float((left - right).norm()) <= tolerance * float(right.norm()), (left, right)
