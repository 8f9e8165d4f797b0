"""Finite problems with a structure that a network can use: nearby observations, similar values.

All is exact, as in every finite problem, though a body sees points of the plane.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from envs.finite.finite_mdp import FiniteMDP, finite_mdp
from neural_tdc.randomness import generator

F64 = torch.float64
# The grids' side in cells, their two ends {(row, column): reward}, and the steps of the actions up,
# right, down and left.
GRID_SIDE = 7
GRID_ENDS = {(6, 6): 1.0, (0, 6): -1.0}
GRID_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
# The noisy grid: positions of a cell, and how often a move is replaced by one drawn uniformly.
POSITIONS = 4
SLIP = 0.2
# The car's tables: positions, of which the last is the goal, speeds, and time steps of a decision.
CAR_POSITIONS, CAR_SPEEDS, CAR_TIME_STEPS = 18, 15, 5
LEFT_END, GOAL, TOP_SPEED = -1.2, 0.5, 0.07


def _fourier(coordinates: Float[Tensor, "states 2"]) -> Float[Tensor, "states 9"]:
    """Return the Fourier basis of order 2 of coordinates in [0, 1]."""
    orders = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(F64)
    return torch.cos(math.pi * coordinates @ orders.mT)


def _cells() -> list[tuple[int, int]]:
    """Return the grid's cells (row, column) without its ends, row by row."""
    cells = [(row, column) for row in range(GRID_SIDE) for column in range(GRID_SIDE)]
    return [cell for cell in cells if cell not in GRID_ENDS]


def _grid_moves() -> tuple[Tensor, Tensor, Tensor]:
    """Return transition [C, 4, C], termination [C, 4] and terminal reward [C, 4] of the cells."""
    cells = _cells()
    number = {cell: index for index, cell in enumerate(cells)}
    transition = torch.zeros(len(cells), 4, len(cells), dtype=F64)
    termination, terminal_reward = (torch.zeros(len(cells), 4, dtype=F64) for _ in range(2))
    for (row, column), state in number.items():
        for action, (down, right) in enumerate(GRID_MOVES):
            cell = (
                min(max(row + down, 0), GRID_SIDE - 1),
                min(max(column + right, 0), GRID_SIDE - 1),
            )
            if cell in GRID_ENDS:
                termination[state, action] = 1
                terminal_reward[state, action] = GRID_ENDS[cell]
            else:
                transition[state, action, number[cell]] = 1
    return transition, termination, terminal_reward


def grid_world() -> FiniteMDP:
    """Make a 7×7 grid with a goal and a pit, under the uniformly random policy.

    States are cells (row, column), numbered row by row without the two ends. Entering the goal in
    the corner (6, 6) ends the episode with reward +1, entering the pit in the corner (0, 6) with
    −1; every other step costs .01. The actions up, right, down and left move by one cell, and a
    move against the wall stays. Start in the corner (6, 0), γ = .95. A body sees the row and the
    column, scaled to [−1, 1]; the given features are the Fourier basis of order 2,
    cos(π(i·row + j·column)) of coordinates in [0, 1] (Konidaris, Osentoski & Thomas 2011). The
    numbers are this library's own.
    """
    transition, termination, terminal_reward = _grid_moves()
    cells = _cells()
    coordinates = torch.tensor(cells, dtype=F64) / (GRID_SIDE - 1)
    return finite_mdp(
        transition=transition,
        reward=torch.full_like(transition, -0.01),
        discount=0.95,
        termination=termination,
        terminal_reward=terminal_reward,
        start=torch.eye(len(cells), dtype=F64)[cells.index((6, 0))],
        observation=2 * coordinates - 1,
        features=_fourier(coordinates),
        steps=20_000,
        name="grid",
    )


def noisy_grid(off_policy: bool = False) -> FiniteMDP:
    """Make the grid of `grid_world` with moves that slip, seen as points of the plane.

    With probability .2 a move is replaced by one drawn uniformly; the reward of a step that ends is
    then the mean of what it may lead to. A cell has four positions, drawn once uniformly within it;
    each step leads to one of the new cell's, drawn uniformly, so that the same cell looks different
    each time and all its positions have the same value. A body sees the position, scaled to
    [−1, 1]; the given features are the Fourier basis of order 2. The target moves down and right
    with probability .4 each, up and left with .1; the behaviour is the same policy, or the uniform
    one with `off_policy`; γ = .95. The problem is this library's own.
    """
    transition, termination, terminal_reward = (
        (1 - SLIP) * table + SLIP * table.mean(1, keepdim=True) for table in _grid_moves()
    )
    terminal_reward = terminal_reward / termination.clamp(min=1e-300)
    cells = _cells()
    shift = torch.rand(
        len(cells), POSITIONS, 2, dtype=F64, generator=generator(0, "noisy grid", POSITIONS)
    )
    points = ((torch.tensor(cells, dtype=F64)[:, None] + shift) / GRID_SIDE).flatten(0, 1)
    to_positions = transition.repeat_interleave(POSITIONS, 2) / POSITIONS
    start = torch.eye(len(cells), dtype=F64)[cells.index((6, 0))]
    target = [[0.1, 0.4, 0.4, 0.1]] * len(points)
    return finite_mdp(
        transition=to_positions.repeat_interleave(POSITIONS, 0),
        reward=torch.full((len(points), 4, len(points)), -0.01, dtype=F64),
        discount=0.95,
        termination=termination.repeat_interleave(POSITIONS, 0),
        terminal_reward=terminal_reward.repeat_interleave(POSITIONS, 0),
        start=start.repeat_interleave(POSITIONS) / POSITIONS,
        target=target,
        behaviour=[[0.25] * 4] * len(points) if off_policy else target,
        observation=2 * points - 1,
        features=_fourier(points),
        steps=20_000,
        name="noisy-grid-off-policy" if off_policy else "noisy-grid",
    )


def car_after(
    position: Tensor, speed: Tensor, action: int
) -> tuple[Tensor, Tensor, Float[Tensor, " states"]]:
    """Return position, speed and whether the goal was reached after a decision of the car.

    The equations are those of Gymnasium's MountainCar-v0, for `CAR_TIME_STEPS` time steps.
    """
    reached = torch.zeros_like(position)
    for _ in range(CAR_TIME_STEPS):
        pushed = speed + 0.001 * (action - 1) - 0.0025 * torch.cos(3 * position)
        moved = pushed.clamp(-TOP_SPEED, TOP_SPEED)
        place = (position + moved).clamp(min=LEFT_END)
        moved = torch.where((place == LEFT_END) & (moved < 0), 0.0, moved)
        going = reached == 0
        position, speed = torch.where(going, place, position), torch.where(going, moved, speed)
        reached = torch.maximum(reached, (position >= GOAL).to(F64))
    return position, speed, reached


def _weights(value: Tensor, low: float, high: float, count: int) -> Float[Tensor, "states count"]:
    """Return the weights of linear interpolation between `count` equal points of [low, high]."""
    place = (value.clamp(low, high) - low) / (high - low) * (count - 1)
    return (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0)


def _reached_from(begins: Tensor, transition: Tensor) -> Tensor:
    """Return which states [S] can be reached from others [S] by transitions [S, S] above 0."""
    reached, count = begins, -1
    while count != int(reached.sum()):
        count = int(reached.sum())
        reached = reached | (transition[reached] > 0).any(0)
    return reached


def tabulated_car(off_policy: bool = False) -> FiniteMDP:
    """Make the mountain car on a table of 17 positions and 15 speeds, with exact values.

    A decision (push left, none, right) holds for five time steps of MountainCar-v0; the position
    and speed that it leads to are drawn among the four nearest of the table with the weights of
    linear interpolation, so that their means are the car's. Reaching .5 ends the episode; a
    decision costs 1, γ = .95. An episode starts at rest at the positions of the table in
    [−.6, −.4]; the 239 states that episodes reach are kept. The target pushes along the speed and
    acts at random with probability .1; the behaviour is the same policy, or with `off_policy` one
    that acts at random with probability .5. A body sees position and speed, scaled to [−1, 1]; the
    given features are the Fourier basis of order 2. Source of the table: Kushner & Dupuis 2001,
    "Numerical Methods for Stochastic Control
    Problems in Continuous Time"; the numbers are this library's own.
    """
    places = torch.linspace(LEFT_END, GOAL, CAR_POSITIONS, dtype=F64)
    speeds = torch.linspace(-TOP_SPEED, TOP_SPEED, CAR_SPEEDS, dtype=F64)
    position, speed = torch.cartesian_prod(places[:-1], speeds).unbind(1)
    states = len(position)
    transition = torch.zeros(states, 3, states, dtype=F64)
    termination = torch.zeros(states, 3, dtype=F64)
    for action in range(3):
        place, moved, reached = car_after(position, speed, action)
        over_places = _weights(place, LEFT_END, GOAL, CAR_POSITIONS)
        both = (
            over_places[:, :-1, None] * _weights(moved, -TOP_SPEED, TOP_SPEED, CAR_SPEEDS)[:, None]
        )
        transition[:, action] = (1 - reached[:, None]) * both.flatten(1)
        termination[:, action] = reached + (1 - reached) * over_places[:, -1]

    def pushing(epsilon: float) -> Tensor:
        along = torch.eye(3, dtype=F64)[2 * (speed >= 0).long()]
        return (1 - epsilon) * along + epsilon / 3

    begins = (speed.abs() < 1e-9) & (position > -0.601) & (position < -0.399)
    scaled = torch.stack(
        [(position - LEFT_END) / (GOAL - LEFT_END), speed / TOP_SPEED / 2 + 0.5], 1
    )
    kept = _reached_from(begins, transition.sum(1))
    transition = transition[kept][..., kept]
    return finite_mdp(
        transition=transition,
        reward=torch.full_like(transition, -1),
        discount=0.95,
        termination=termination[kept],
        terminal_reward=torch.full_like(termination[kept], -1),
        start=begins[kept].to(F64) / begins.sum(),
        target=pushing(0.1)[kept],
        behaviour=pushing(0.5 if off_policy else 0.1)[kept],
        observation=2 * scaled[kept] - 1,
        features=_fourier(scaled[kept]),
        steps=20_000,
        name="car-off-policy" if off_policy else "car",
    )


def noisy_grid_off_policy() -> FiniteMDP:
    """Make the noisy grid with a uniform behaviour policy."""
    return noisy_grid(off_policy=True)


def car_off_policy() -> FiniteMDP:
    """Make the tabulated car with a behaviour policy that acts at random half of the time."""
    return tabulated_car(off_policy=True)
