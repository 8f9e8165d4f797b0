"""A cycle of states with a constant reward, and short evaluations of it."""

import torch

from neural_tdc import Transition, evaluate
from neural_tdc.networks.bodies import mlp

STREAMS, TIME, STATES = 3, 60, 5


def cycle(time=TIME, streams=None, dtype=torch.float32, seed=0):
    """Return a walk around a ring of five states, one on or two on, that never ends.

    The reward is 1 everywhere and γ = 0.9, so that every value is 10.
    """
    g = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, 3, (streams or 1, time), generator=g)
    state = torch.cat([torch.zeros(streams or 1, 1, dtype=torch.int64), steps.cumsum(1)], 1) % 5
    observation = torch.eye(STATES, dtype=dtype)[state]
    ones = torch.ones(streams or 1, time, dtype=dtype)
    transitions = Transition(observation[:, :-1], ones, 0.9 * ones, observation[:, 1:], ones)
    return transitions if streams else Transition(*(leaf[0] for leaf in transitions[:5]))


def small(shape):
    return mlp(shape, 3, (4,))


def quick(transitions=None, **options):
    """Evaluate for a few updates."""
    settings = {"body": small, "steps": 6, "measure_every": 4, **options}
    return evaluate(cycle() if transitions is None else transitions, **settings)
