"""A linear system with quadratic cost and normal noise, whose values are known exactly."""

from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch.distributions import MultivariateNormal

A = np.array([[0.9, 0.2], [-0.1, 0.8]])
B = np.array([[0.0, 0.3, 0.1], [0.5, 0.0, -0.2]])
Q = np.array([[1.0, 0.2], [0.2, 0.5]])
R = np.diag([0.1, 0.3, 0.2])
NOISE = 0.1
GAIN = np.array([[-0.2, -0.3], [0.1, -0.4], [0.0, 0.3]])
COVARIANCE = np.array([[0.09, 0.02, 0.0], [0.02, 0.04, 0.01], [0.0, 0.01, 0.16]])


class LinearSystem(gymnasium.Env):
    """x' = Ax + Bu + noise, reward −xᵀQx − uᵀRu, no end; two states, three actions, no bounds."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64)
    action_space = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action):
        reward = -(self.state @ Q @ self.state) - action @ R @ action
        noise = NOISE * self.np_random.normal(size=2)
        self.state = A @ self.state + B @ action + noise
        return self.state.copy(), float(reward), False, False, {}


class QuadraticValue(NamedTuple):
    """V(x) = −xᵀPx − c."""

    matrix: np.ndarray
    constant: float

    def __call__(self, state):
        """Return the values of states [n, 2]."""
        return -np.einsum("ni,ij,nj->n", state, self.matrix, state) - self.constant


def exact_value(discount, gain=GAIN, covariance=COVARIANCE):
    """Return the value of u ~ N(Kx, Σ): P = Q + KᵀRK + γMᵀPM with M = A + BK, a linear system."""
    closed = A + B @ gain
    cost = Q + gain.T @ R @ gain
    system = np.eye(4) - discount * np.kron(closed.T, closed.T)
    matrix = np.linalg.solve(system, cost.reshape(-1)).reshape(2, 2)
    moved = B @ covariance @ B.T + NOISE**2 * np.eye(2)
    step = np.trace(R @ covariance) + discount * np.trace(matrix @ moved)
    return QuadraticValue(matrix, step / (1 - discount))


def gaussian(observation, gain=GAIN, covariance=COVARIANCE):
    """Return the policy's distribution at observations [n, 2]."""
    mean = observation.double() @ torch.from_numpy(gain).T
    return MultivariateNormal(mean, torch.from_numpy(covariance).expand(len(mean), 3, 3))


def wider(observation):
    """Return the same means with twice the covariance."""
    return gaussian(observation, covariance=2 * COVARIANCE)
