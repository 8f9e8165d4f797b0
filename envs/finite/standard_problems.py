"""The finite problems on which the field compares rules for policy evaluation.

The random walk and Boyan's chain have several published forms; the docstrings say which is meant.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from envs.finite.counterexamples import collision, kolter, random_walk_19, spiral, two_states
from envs.finite.finite_mdp import FiniteMDP, finite_mdp
from envs.finite.structured_problems import (
    car_off_policy,
    grid_world,
    noisy_grid,
    noisy_grid_off_policy,
    tabulated_car,
)
from envs.names import closest_names
from neural_tdc.randomness import generator


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def _one_hot(states: int, state: int) -> Tensor:
    return torch.eye(states, dtype=torch.float64)[state]


def _random_walk(kind: str, features: Tensor) -> FiniteMDP:
    states, left, right = 5, 0, 1
    transition, termination = _zeros(states, 2, states), _zeros(states, 2)
    for state in range(states - 1):
        transition[state + 1, left, state] = 1
        transition[state, right, state + 1] = 1
    termination[0, left] = termination[-1, right] = 1
    terminal_reward = _zeros(states, 2)
    terminal_reward[0, left], terminal_reward[-1, right] = -1, 1
    return finite_mdp(
        transition=transition,
        reward=_zeros(states, 2, states),
        discount=1.0,
        termination=termination,
        terminal_reward=terminal_reward,
        start=_one_hot(states, 2),
        target=[[0.4, 0.6]] * states,
        behaviour=[[0.5, 0.5]] * states,
        features=features / features.norm(dim=1, keepdim=True),
        steps=3_000,
        name=f"random-walk-{kind}",
    )


def random_walk_tabular() -> FiniteMDP:
    """Make the random walk with one feature a state.

    Five states in a row, start in the middle, leaving on the left −1, on the right +1, γ = 1. The
    target steps left and right with (.4, .6), the behaviour with (.5, .5). Source: Sutton et al.
    2009, section 6, for the walk and the three sets of features.
    """
    return _random_walk("tabular", torch.eye(5, dtype=torch.float64))


def random_walk_dependent() -> FiniteMDP:
    """Make the random walk of `random_walk_tabular` with three features for its five states.

    The rows are 100, 110, 111, 011, 001, each normalised.
    """
    rows = [[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1]]
    return _random_walk("dependent", torch.tensor(rows, dtype=torch.float64))


def random_walk_inverted() -> FiniteMDP:
    """Make the random walk of `random_walk_tabular` with features that generalise wrongly.

    A state has every feature but its own: the rows of 1 − I, normalised.
    """
    return _random_walk("inverted", 1 - torch.eye(5, dtype=torch.float64))


def boyan() -> FiniteMDP:
    """Make Boyan's chain: on-policy, 12 states and an end, 4 interpolated features.

    From states 0 to 9 the chain goes one or two on, each with probability ½, from 10 to 11 and
    from 11 to the end; the reward is −3, from 11 −2; γ = 1; start in 0. The features have anchors
    at 0, 4, 8 and 12, the end being 12. Source: Boyan 2002, "Technical update: least-squares
    temporal difference learning"; other published tables differ.
    """
    states = 12
    transition, termination = _zeros(states, 1, states), _zeros(states, 1)
    for state in range(states - 2):
        transition[state, 0, state + 1 : state + 3] = 0.5
    transition[10, 0, 11] = termination[11, 0] = 1
    place = torch.arange(states, dtype=torch.float64)
    anchors = torch.tensor([0, 4, 8, 12], dtype=torch.float64)
    return finite_mdp(
        transition=transition,
        reward=torch.full_like(transition, -3),
        discount=1.0,
        termination=termination,
        terminal_reward=torch.full_like(termination, -2),
        start=_one_hot(states, 0),
        features=(1 - (place[:, None] - anchors).abs() / 4).clamp(min=0),
        steps=10_000,
        name="boyan",
    )


def baird() -> FiniteMDP:
    """Make Baird's star, on which off-policy TD diverges.

    Seven states, no end, no reward, γ = .99. The dashed action 0 leads to one of the first six
    states, the solid action 1 to the seventh; the behaviour is (6/7, 1/7), the target always
    solid; start in the seventh. Eight features (bias, w₁, …, w₇): the first six states have bias 1
    and their own weight 2, the seventh bias 2 and its own weight 1; the initial head is
    (1, 1, 1, 1, 1, 1, 1, 10). Source: Baird 1995; Sutton & Barto 2018, section 11.2.
    """
    states = 7
    transition = _zeros(states, 2, states)
    transition[:, 0, :6] = 1 / 6
    transition[:, 1, 6] = 1
    bias = torch.tensor([1, 1, 1, 1, 1, 1, 2], dtype=torch.float64)
    own = torch.tensor([2, 2, 2, 2, 2, 2, 1], dtype=torch.float64)
    return finite_mdp(
        transition=transition,
        reward=torch.zeros_like(transition),
        discount=0.99,
        start=_one_hot(states, 6),
        target=[[0.0, 1.0]] * states,
        behaviour=[[6 / 7, 1 / 7]] * states,
        features=torch.cat([bias[:, None], own.diag()], 1),
        initial_head=[1, 1, 1, 1, 1, 1, 1, 10],
        steps=20_000,
        name="baird",
    )


def garnet(
    states: int = 30,
    actions: int = 4,
    branching: int = 3,
    seed: int = 0,
    off_policy: bool = False,
    discount: float = 0.95,
    feature_count: int = 8,
    active_features: int = 3,
) -> FiniteMDP:
    """Make a random problem: a Garnet with the given numbers of states, actions and branches.

    Every state and action leads to `branching` different states, with the lengths of the pieces
    of a randomly cut unit interval as probabilities, and has one reward from a standard normal
    distribution. There is no end; the start is uniform. The target policy is a randomly cut
    interval too; the behaviour is the same policy, or the uniform one with `off_policy`. The
    given features are binary, `active_features` of `feature_count` being 1, and no two states are
    alike while there are enough such features. Raises ValueError where the numbers do not allow
    this. Source: Archibald, McKinnon & Thomas 1995; Bhatnagar et al. 2009, "Natural actor-critic
    algorithms". There is no canonical set of numbers: these defaults are this library's own.
    """
    for name, number, most in (
        ("branching", branching, states),
        ("active_features", active_features, feature_count),
    ):
        if not 1 <= number <= most:
            raise ValueError(f"{name} is {number}, but must lie between 1 and {most}")
    source = generator(seed, "garnet", states, actions, branching)

    def cut_interval(pieces: int) -> Tensor:
        cuts = torch.rand(pieces - 1, generator=source, dtype=torch.float64).sort().values
        return torch.diff(cuts, prepend=_zeros(1), append=_zeros(1) + 1)

    transition = _zeros(states, actions, states)
    for state in range(states):
        for action in range(actions):
            targets = torch.randperm(states, generator=source)[:branching]
            transition[state, action, targets] = cut_interval(branching)
    reward = torch.randn(states, actions, 1, generator=source, dtype=torch.float64)
    target = torch.stack([cut_interval(actions) for _ in range(states)])
    rows: list[tuple[int, ...]] = []
    enough = math.comb(feature_count, active_features) >= states
    while len(rows) < states:
        chosen = torch.randperm(feature_count, generator=source)[:active_features]
        row = tuple(chosen.sort().values.tolist())
        if not (enough and row in rows):
            rows.append(row)
    features = _zeros(states, feature_count).scatter(1, torch.tensor(rows), 1.0)
    return finite_mdp(
        transition=transition,
        reward=reward.expand(states, actions, states),
        discount=discount,
        target=target,
        behaviour=torch.full_like(target, 1 / actions) if off_policy else target,
        features=features,
        steps=10_000,
        name=("garnet-off-policy" if off_policy else "garnet") + f"-{seed}",
    )


def garnet_off_policy() -> FiniteMDP:
    """Make the Garnet of seed 0 with a uniform behaviour policy."""
    return garnet(off_policy=True)


# One line per problem.
FINITE_PROBLEMS: dict[str, Callable[[], FiniteMDP]] = {
    "random-walk-tabular": random_walk_tabular,
    "random-walk-dependent": random_walk_dependent,
    "random-walk-inverted": random_walk_inverted,
    "random-walk-19": random_walk_19,
    "boyan": boyan,
    "baird": baird,
    "two-states": two_states,
    "kolter": kolter,
    "collision": collision,
    "spiral": spiral,
    "garnet": garnet,
    "garnet-off-policy": garnet_off_policy,
    "grid": grid_world,
    "noisy-grid": noisy_grid,
    "noisy-grid-off-policy": noisy_grid_off_policy,
    "car": tabulated_car,
    "car-off-policy": car_off_policy,
}
# Problems that are drawn from a seed, which stands at the end of the name.
SEEDED_PROBLEMS: dict[str, Callable[[int], FiniteMDP]] = {
    "garnet": lambda seed: garnet(seed=seed),
    "garnet-off-policy": lambda seed: garnet(seed=seed, off_policy=True),
    "collision": lambda seed: collision(seed=seed),
}


def is_finite_problem(name: str) -> bool:
    """Tell whether a name is that of a standard problem, or begins as that of a seeded one."""
    return name in FINITE_PROBLEMS or name.rpartition("-")[0] in SEEDED_PROBLEMS


def problem(name: str) -> FiniteMDP:
    """Make the standard problem of this name, `garnet-3` being the Garnet of seed 3.

    Raises ValueError with the nearest names where there is none.
    """
    if name in FINITE_PROBLEMS:
        return FINITE_PROBLEMS[name]()
    family, _, seed = name.rpartition("-")
    if family in SEEDED_PROBLEMS and seed.isdecimal():
        return SEEDED_PROBLEMS[family](int(seed))
    near = closest_names(name, FINITE_PROBLEMS)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FINITE_PROBLEMS)}"
    raise ValueError(f"there is no problem named '{name}': {hint}")
