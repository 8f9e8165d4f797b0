"""Prediction problems on which nothing in this repository was tuned, simulated in NumPy.

Every problem steps any number of states at once, so that true values by Monte Carlo cost seconds.
Where the states can be listed, or the value is a quadratic, the truth is exact.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.accuracy.collection import Array, Problem, Step
from benchmarks.accuracy.linear_problem import linear_problem


def _solved(
    discount: float, transition: Array, reward: Array, index: Callable[[Array], Array]
) -> Callable[[Array], Array]:
    """Return the exact values of a listed chain as a function of states."""
    values = np.linalg.solve(np.eye(len(reward)) - discount * transition, reward)
    return lambda states: values[index(states)]


def _mixed(greedy: Array, actions: int, epsilon: float) -> Array:
    return (1 - epsilon) * np.eye(actions)[greedy] + epsilon / actions


CAPACITY, ARRIVES, SERVED = 15, 0.5, (0.35, 0.25)


def _queue_moves(state: Array, action: Array) -> list[tuple[Array, float]]:
    """Return every outcome of a slot and its probability, for states and actions [n]."""
    moves = []
    for arrives in (0, 1):
        for first in (0, 1):
            for second in (0, 1):
                chance = (
                    (ARRIVES if arrives else 1 - ARRIVES)
                    * (SERVED[0] if first else 1 - SERVED[0])
                    * (SERVED[1] if second else 1 - SERVED[1])
                )
                after = state - np.array([first, second])
                after = np.maximum(after, 0)
                after[np.arange(len(after)), action] += arrives
                moves.append((np.minimum(after, CAPACITY), chance))
    return moves


def queue(off_policy: bool = False) -> Problem:
    """Two servers; arrivals join the shorter queue. The reward is minus the customers waiting."""
    discount = 0.98

    def target(state: Array) -> Array:
        return _mixed((state[:, 1] < state[:, 0]).astype(int), 2, 0.1)

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        after = np.maximum(state - (rng.random(state.shape) < SERVED), 0)
        after[np.arange(len(after)), action] += rng.random(len(after)) < ARRIVES
        done = np.zeros(len(state), dtype=bool)
        return np.minimum(after, CAPACITY), -state.sum(1).astype(float), done

    size = CAPACITY + 1
    states = np.stack(np.meshgrid(range(size), range(size), indexing="ij"), -1).reshape(-1, 2)
    transition, everywhere = np.zeros((len(states), len(states))), np.arange(len(states))
    for action in (0, 1):
        weight = target(states)[:, action]
        for after, chance in _queue_moves(states, np.full(len(states), action)):
            np.add.at(transition, (everywhere, after @ (size, 1)), weight * chance)
    reward = -states.sum(1).astype(float)
    return Problem(
        "queue-off" if off_policy else "queue",
        discount,
        lambda rng, n: rng.integers(0, 4, (n, 2)),
        step,
        lambda state: state.astype(float),
        target,
        (lambda state: np.full((len(state), 2), 0.5)) if off_policy else None,
        _solved(discount, transition, reward, lambda state: state @ (size, 1)),
    )


SHELF, WEEK, ORDERS, DEMAND = 20, 7, (0, 5, 10), (2.0, 1.0, 1.0, 1.5, 2.5, 4.0, 5.0)


def _poisson(mean: float) -> Array:
    """Return the probabilities of 0 … SHELF, the last one of all that is more."""
    chances = np.exp(-mean) * np.cumprod([1.0, *(mean / k for k in range(1, SHELF + 1))])
    chances[-1] += 1 - chances.sum()
    return chances


def stock(off_policy: bool = False) -> Problem:
    """A shop with a weekly season; state (level, weekday). Costs of holding, orders, lost sales."""
    discount = 0.97
    demand = np.stack([_poisson(mean) for mean in DEMAND])

    def target(state: Array) -> Array:
        return _mixed(np.where(state[:, 0] <= 4, 2, np.where(state[:, 0] <= 9, 1, 0)), 3, 0.1)

    def sold(level: Array, order: Array, wanted: Array) -> tuple[Array, Array]:
        offered = np.minimum(level + order, SHELF)
        lost = np.maximum(wanted - offered, 0)
        cost = 0.1 * level + 1.0 * (order > 0) + 0.2 * order + 2.0 * lost
        return np.maximum(offered - wanted, 0), -cost

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        level, day = state.T
        wanted = (rng.random((len(day), 1)) > demand[day].cumsum(1)[:, :-1]).sum(1)
        left, reward = sold(level, np.array(ORDERS)[action], wanted)
        done = np.zeros(len(state), dtype=bool)
        return np.stack([left, (day + 1) % WEEK], 1), reward, done

    def observe(state: Array) -> Array:
        angle = 2 * np.pi * state[:, 1] / WEEK
        return np.stack([state[:, 0].astype(float), np.cos(angle), np.sin(angle)], 1)

    size = (SHELF + 1) * WEEK
    states = np.stack(np.meshgrid(range(SHELF + 1), range(WEEK), indexing="ij"), -1).reshape(-1, 2)
    transition, reward, everywhere = np.zeros((size, size)), np.zeros(size), np.arange(size)
    for action, order in enumerate(ORDERS):
        for wanted in range(SHELF + 1):
            weight = target(states)[:, action] * demand[states[:, 1], wanted]
            left, gain = sold(states[:, 0], np.full(size, order), np.full(size, wanted))
            np.add.at(transition, (everywhere, left * WEEK + (states[:, 1] + 1) % WEEK), weight)
            reward += weight * gain
    return Problem(
        "stock-off" if off_policy else "stock",
        discount,
        lambda rng, n: np.stack([rng.integers(0, SHELF + 1, n), rng.integers(0, WEEK, n)], 1),
        step,
        observe,
        target,
        (lambda state: _mixed(target(state).argmax(1), 3, 0.7)) if off_policy else None,
        _solved(discount, transition, reward, lambda state: state @ (WEEK, 1)),
    )


GOAL, PIT = np.array([0.85, 0.85]), np.array([0.55, 0.45])
COMPASS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def navigation(sparse: bool = False, off_policy: bool = False) -> Problem:
    """A point in the unit square, pushed by wind, walks to a goal; episodes end there.

    The reward is −1 a step; with `sparse` it is 1 at the goal, −1 in a pit, and 0 elsewhere.
    """

    def target(state: Array) -> Array:
        away = GOAL - state
        pull = np.exp(8 * away @ COMPASS.T / np.linalg.norm(away, axis=1, keepdims=True).clip(0.1))
        return 0.8 * pull / pull.sum(1, keepdims=True) + 0.05

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        after = state + 0.05 * COMPASS[action] + 0.02 * rng.standard_normal(state.shape)
        after = after.clip(0, 1)
        home = np.linalg.norm(after - GOAL, axis=1) < 0.1
        if not sparse:
            return after, np.full(len(state), -1.0), home
        fallen = np.linalg.norm(after - PIT, axis=1) < 0.1
        return after, home.astype(float) - fallen, home | fallen

    name = ("sparse" if sparse else "navigation") + ("-off" if off_policy else "")
    return Problem(
        name,
        0.99,
        lambda rng, n: rng.random((n, 2)) * 0.5,
        step,
        lambda state: state,
        target,
        (lambda state: 0.6 * target(state) + 0.1) if off_policy else None,
        limit=300,
    )


def integrator(distractors: int = 0) -> Problem:
    """A noisy double integrator under a linear controller, quadratic cost: an exact quadratic.

    distractors: further observations that wander by themselves and tell nothing
    """
    moves, force = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
    gain = np.array([[0.5, 1.0]])
    return linear_problem(
        "integrator",
        0.97,
        moves - force @ gain,
        np.diag([1.0, 0.1]) + 0.1 * gain.T @ gain,
        noise=0.1,
        distractors=distractors,
        kept=0.9,
        drift=0.4,
    )


TORQUES = np.array([-2.0, 0.0, 2.0])


def pendulum(off_policy: bool = False) -> Problem:
    """Gymnasium's Pendulum-v1 with three torques: swung up by its energy, then held.

    The dynamics and rewards are those of Gymnasium 1.4; every episode is cut after 200 steps.
    """

    def target(state: Array) -> Array:
        angle, speed = state.T
        energy = 0.5 * speed**2 / 3 + 5.0 * (np.cos(angle) - 1)
        pump = np.where(energy < 0, np.sign(speed), -np.sign(speed))
        hold = -np.sign(8 * angle + 2 * speed)
        near = np.abs(angle) < 0.4
        return _mixed(1 + np.where(near, hold, pump).astype(int), 3, 0.1)

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        angle, speed = state.T
        torque = TORQUES[action]
        cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = (speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05).clip(-8, 8)
        angle = (angle + 0.05 * speed + np.pi) % (2 * np.pi) - np.pi
        return np.stack([angle, speed], 1), -cost, np.zeros(len(state), dtype=bool)

    def start(rng: np.random.Generator, n: int) -> Array:
        return np.stack([rng.uniform(-np.pi, np.pi, n), rng.uniform(-1, 1, n)], 1)

    def observe(state: Array) -> Array:
        return np.stack([np.cos(state[:, 0]), np.sin(state[:, 0]), state[:, 1]], 1)

    return Problem(
        "pendulum-off" if off_policy else "pendulum",
        0.97,
        start,
        step,
        observe,
        target,
        (lambda state: 0.5 * target(state) + 0.5 / 3) if off_policy else None,
        limit=200,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "queue": queue,
    "queue-off": lambda: queue(off_policy=True),
    "stock": stock,
    "stock-off": lambda: stock(off_policy=True),
    "navigation": navigation,
    "navigation-off": lambda: navigation(off_policy=True),
    "sparse": lambda: navigation(sparse=True),
    "sparse-off": lambda: navigation(sparse=True, off_policy=True),
    "integrator": integrator,
    "integrator-distracted": lambda: integrator(distractors=4),
    "pendulum": pendulum,
    "pendulum-off": lambda: pendulum(off_policy=True),
}
