"""A random decision problem of unequal sizes, and its averages over single transitions."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.transition_matrices import stationary_weighting

STATES, ACTIONS, OBSERVATION, HIDDEN, D = 6, 3, 2, 5, 4
DISCOUNT = 0.9
F64 = torch.float64


class Sample(NamedTuple):
    """Every (s, a, s' or end): probability, numbers of s and s', r, γ_t, ρ."""

    probability: Tensor
    state: Tensor
    following: Tensor
    reward: Tensor
    discount: Tensor
    ratio: Tensor


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def shares(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    numbers = torch.rand(*shape, generator=source, dtype=F64) + 0.05
    return numbers / numbers.sum(-1, keepdim=True)


def decision_problem(off_policy):
    """Return a chain and the same thing transition by transition, summed up in plain loops."""
    outcomes = shares(STATES, ACTIONS, STATES + 1, seed=1)
    rewards = normal(STATES, ACTIONS, STATES + 1, seed=2)
    target = shares(STATES, ACTIONS, seed=3)
    behaviour = shares(STATES, ACTIONS, seed=4) if off_policy else target
    start = shares(STATES, seed=5)
    transition, behaved = torch.zeros(2, STATES, STATES, dtype=F64)
    reward = torch.zeros(STATES, dtype=F64)
    for state in range(STATES):
        for action in range(ACTIONS):
            for following in range(STATES + 1):
                p = outcomes[state, action, following]
                reward[state] += target[state, action] * p * rewards[state, action, following]
                if following < STATES:
                    transition[state, following] += target[state, action] * p
                    behaved[state, following] += behaviour[state, action] * p
                else:
                    behaved[state] += behaviour[state, action] * p * start
    weighting = stationary_weighting(behaved)
    rows = [
        (
            weighting[state] * behaviour[state, action] * outcomes[state, action, following],
            state,
            following % STATES,
            rewards[state, action, following],
            DISCOUNT * (following < STATES),
            target[state, action] / behaviour[state, action],
        )
        for state in range(STATES)
        for action in range(ACTIONS)
        for following in range(STATES + 1)
    ]
    columns = [torch.tensor(column, dtype=F64) for column in zip(*rows)]
    sample = Sample(*columns)._replace(state=columns[1].long(), following=columns[2].long())
    return MarkovChain(transition, reward, DISCOUNT, weighting), sample


def body(layers, seed=6):
    sizes = [OBSERVATION, *[HIDDEN] * (layers - 1), D]
    return {
        f"{kind}{layer}": normal(*shape, seed=seed + 10 * layer + column)
        for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes[:-1]))
        for column, (kind, shape) in enumerate([("weight", (rows, columns)), ("bias", (rows,))])
    }


def tanh_features(parameters, observation):
    for layer in range(len(parameters) // 2):
        product = observation @ parameters[f"weight{layer}"].T
        observation = torch.tanh(product + parameters[f"bias{layer}"])
    return observation


def sample_moments(sample, features, head):
    """Return E[ρδφ] and C as averages over single transitions."""
    now, then = features[sample.state], features[sample.following]
    delta = sample.reward + sample.discount * (then @ head) - now @ head
    b = ((sample.probability * sample.ratio * delta)[:, None] * now).sum(0)
    return b, (sample.probability[:, None] * now).T @ now


def half_objective(sample, features, head, epsilon):
    b, C = sample_moments(sample, features, head)
    return b @ torch.linalg.solve(C + epsilon * torch.eye(len(C), dtype=F64), b) / 2


observations = normal(STATES, OBSERVATION, seed=7)
head = normal(D, seed=8)
features = normal(STATES, D, seed=9)
both_policies = pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
