"""Linear systems under a controller, with noise and a quadratic cost: the values are quadratic."""

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from benchmarks.accuracy.collection import Array, Problem, Step


def linear_problem(
    name: str,
    discount: float,
    closed: Array,
    cost: Array,
    noise: float,
    *,
    slope: Array | float = 0.0,
    distractors: int = 0,
    kept: float,
    drift: float,
) -> Problem:
    """Return the problem of x' = closed·x + noise with the reward −(xᵀ cost x + slopeᵀx).

    distractors: further observations that wander by themselves and tell nothing
    kept, drift: what is kept of a distractor in a step, and the size of what is added
    """
    size = len(closed)
    slope = np.broadcast_to(slope, size)
    # v(x) = −(xᵀPx + pᵀx + c) with P = cost + γ closedᵀ P closed and p = slope + γ closedᵀ p.
    P = solve_discrete_lyapunov(np.sqrt(discount) * closed.T, cost)
    p = np.linalg.solve(np.eye(size) - discount * closed.T, slope)
    constant = discount / (1 - discount) * noise**2 * np.trace(P)

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        plant, rest = state[:, :size], state[:, size:]
        reward = -np.einsum("ni,ij,nj->n", plant, cost, plant) - plant @ slope
        after = plant @ closed.T + noise * rng.standard_normal(plant.shape)
        wander = kept * rest + drift * rng.standard_normal(rest.shape)
        return np.concatenate([after, wander], 1), reward, np.zeros(len(state), dtype=bool)

    def exact(state: Array) -> Array:
        plant = state[:, :size]
        return -np.einsum("ni,ij,nj->n", plant, P, plant) - plant @ p - constant

    return Problem(
        f"{name}-distracted" if distractors else name,
        discount,
        lambda rng, n: rng.standard_normal((n, size + distractors)),
        step,
        lambda state: state,
        lambda state: np.ones((len(state), 1)),
        exact=exact,
    )
