"""Prediction problems that methods and criteria may be chosen on, of the kinds of the page's own.

They are continuing or end, noisy, on- and off-policy, and every truth is exact: finite chains that
are observed by a few numbers, and linear systems with a quadratic cost. None is a problem of the
page, and no figure of the page comes from them.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.accuracy.collection import Array, Problem, Step, drawn_actions
from benchmarks.accuracy.linear_problem import linear_problem


def _listed(
    name: str,
    discount: float,
    transition: Array,
    reward: Array,
    observation: Array,
    target: Array,
    behaviour: Array | None,
    starts: Array,
) -> Problem:
    """Return the problem of a listed chain; rows of transitions sum to 1 less the chance to end.

    transition: [action, state, state], reward: [state, action], observation: [state, number]
    target, behaviour: [state, action] probabilities; starts: [k] states an episode starts in
    """
    size = len(reward)
    ends = np.clip(1 - transition.sum(2, keepdims=True), 0, 1)
    whole = np.concatenate([transition, ends], 2)

    def step(rng: np.random.Generator, state: Array, action: Array) -> Step:
        after = drawn_actions(rng, whole[action, state[:, 0]])
        done = after == size
        return np.where(done, 0, after)[:, None], reward[state[:, 0], action], done

    mean = np.einsum("sa,ast->st", target, transition)
    values = np.linalg.solve(np.eye(size) - discount * mean, (target * reward).sum(1))
    return Problem(
        name,
        discount,
        lambda rng, n: rng.choice(starts, (n, 1)),
        step,
        lambda state: observation[state[:, 0]],
        lambda state: target[state[:, 0]],
        None if behaviour is None else (lambda state: behaviour[state[:, 0]]),
        lambda state: values[state[:, 0]],
    )


def _grid(size: int) -> tuple[Array, Array]:
    """Return the coordinates [state, 2] of a square and the state of every pair of them."""
    places = np.stack(np.meshgrid(range(size), range(size), indexing="ij"), -1).reshape(-1, 2)
    return places, np.arange(size * size).reshape(size, size)


def tandem(off_policy: bool = False) -> Problem:
    """Two queues in a row; the second server is fast or slow, and fast costs. Continuing."""
    size, arrives, first, slow, fast = 14, 0.4, 0.5, 0.4, 0.65
    places, number = _grid(size)
    transition = np.zeros((2, len(places), len(places)))
    for action, second in enumerate((slow, fast)):
        for a in (0, 1):
            for b in (0, 1):
                for c in (0, 1):
                    chance = (
                        (arrives if a else 1 - arrives)
                        * (first if b else 1 - first)
                        * (second if c else 1 - second)
                    )
                    passed = b * (places[:, 0] > 0)
                    x = places[:, 0] - passed + a
                    y = places[:, 1] - c * (places[:, 1] > 0) + passed
                    after = number[x.clip(max=size - 1), y.clip(max=size - 1)]
                    np.add.at(transition[action], (np.arange(len(places)), after), chance)
    reward = -places.sum(1, keepdims=True) - np.array([[0.0, 2.0]])
    busy = (places[:, 1] >= 4).astype(int)
    target = 0.85 * np.eye(2)[busy] + 0.075
    return _listed(
        "tandem-off" if off_policy else "tandem",
        0.97,
        transition,
        reward.astype(float),
        places.astype(float),
        target,
        np.full_like(target, 0.5) if off_policy else None,
        np.array([0]),
    )


def river(off_policy: bool = False) -> Problem:
    """A boat crosses a river that carries it along; the current is random. 1 at the pier, ends."""
    size = 18
    places, number = _grid(size)
    transition = np.zeros((3, len(places), len(places)))
    pier = (places[:, 1] == size - 1) & (abs(places[:, 0] - 6) <= 2)
    lost = (places[:, 0] == size - 1) & ~pier
    for action, move in enumerate(((0, 1), (-1, 0), (1, 0))):
        for drift, chance in ((0, 0.45), (1, 0.35), (2, 0.2)):
            x = (places[:, 0] + move[0] + drift * (places[:, 1] % 17 > 2)).clip(0, size - 1)
            y = (places[:, 1] + move[1]).clip(0, size - 1)
            np.add.at(transition[action], (np.arange(len(places)), number[x, y]), chance)
    transition[:, pier | lost] = 0
    reward = np.repeat((1.0 * pier - 1.0 * lost - 0.01)[:, None], 3, 1)
    upstream = np.where(places[:, 0] > 12 - places[:, 1] // 3, 1, 0)
    target = 0.8 * np.eye(3)[upstream] + 0.2 / 3
    return _listed(
        "river-off" if off_policy else "river",
        0.98,
        transition,
        reward,
        places / size,
        target,
        0.4 * target + 0.2 if off_policy else None,
        np.flatnonzero((places[:, 1] == 0) & (places[:, 0] < 8)),
    )


def machine(off_policy: bool = False) -> Problem:
    """A machine wears out in two ways; it runs, or it is repaired and loses a while. Continuing."""
    size = 16
    places, number = _grid(size)
    transition = np.zeros((2, len(places), len(places)))
    for x, chance_x in ((0, 0.5), (1, 0.4), (3, 0.1)):
        for y, chance_y in ((0, 0.7), (1, 0.2), (2, 0.1)):
            after = number[(places[:, 0] + x).clip(max=15), (places[:, 1] + y).clip(max=15)]
            np.add.at(transition[0], (np.arange(len(places)), after), chance_x * chance_y)
    for left, chance in ((0, 0.6), (1, 0.3), (3, 0.1)):
        after = number[np.minimum(places[:, 0], left), np.minimum(places[:, 1], 2)]
        np.add.at(transition[1], (np.arange(len(places)), after), chance)
    wear = places / (size - 1)
    runs = 1 - wear[:, 0] ** 2 - 2 * wear[:, 1] ** 3
    reward = np.stack([runs, np.full(len(places), -1.5)], 1)
    worn = (wear.sum(1) > 0.9).astype(int)
    target = 0.9 * np.eye(2)[worn] + 0.05
    acting = 0.5 * np.eye(2)[(wear.sum(1) > 0.6).astype(int)] + 0.25
    return _listed(
        "machine-off" if off_policy else "machine",
        0.98,
        transition,
        reward,
        wear,
        target,
        acting if off_policy else None,
        np.array([0]),
    )


def linear_system(distractors: int = 0) -> Problem:
    """Three coupled states with noise, a quadratic cost and a linear term: V is quadratic."""
    return linear_problem(
        "linear",
        0.95,
        np.array([[0.85, 0.2, 0.0], [-0.2, 0.8, 0.1], [0.1, 0.0, 0.6]]),
        np.diag([1.0, 0.3, 0.5]),
        noise=0.2,
        slope=np.array([0.5, -0.3, 0.0]),
        distractors=distractors,
        kept=0.8,
        drift=0.6,
    )


DESIGNED_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "tandem": tandem,
    "tandem-off": lambda: tandem(off_policy=True),
    "river": river,
    "river-off": lambda: river(off_policy=True),
    "machine": machine,
    "machine-off": lambda: machine(off_policy=True),
    "linear": linear_system,
    "linear-distracted": lambda: linear_system(distractors=3),
}
