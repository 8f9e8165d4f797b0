import gymnasium
import pytest
import torch

from envs.finite.finite_mdp import chain
from envs.finite.structured_problems import (
    CAR_TIME_STEPS,
    GOAL,
    LEFT_END,
    POSITIONS,
    SLIP,
    TOP_SPEED,
    car_after,
    car_off_policy,
    grid_world,
    noisy_grid,
    noisy_grid_off_policy,
    tabulated_car,
)

F64 = torch.float64


def test_grid_ends_in_two_corners_and_walls_hold():
    mdp = grid_world()
    assert len(mdp.start) == 47
    assert mdp.termination.sum() == 4
    assert sorted(mdp.terminal_reward[mdp.termination > 0].tolist()) == [-1, -1, 1, 1]
    # The first cell is the corner (0, 0): up and left stay there, right and down move.
    assert mdp.transition[0, :, 0].tolist() == [1, 0, 0, 1]
    assert mdp.transition[0, 1, 1] == 1
    assert mdp.transition[0, 2, 6] == 1
    assert mdp.observation[0].tolist() == [-1.0, -1.0]
    assert mdp.observation[mdp.start.argmax()].tolist() == [1.0, -1.0]
    assert torch.linalg.matrix_rank(mdp.features) == 9


def test_grid_is_better_near_the_goal_than_near_the_pit():
    mdp = grid_world()
    value = chain(mdp).value()
    near_goal, near_pit = (mdp.terminal_reward == reward for reward in (1.0, -1.0))
    assert value[near_goal.any(1)].min() > 0 > value[near_pit.any(1)].max()


def test_positions_of_a_cell_of_the_noisy_grid_differ_and_have_the_value_of_the_cell():
    mdp, cells = noisy_grid(), grid_world()
    value = chain(mdp).value().reshape(-1, POSITIONS)
    # The same by the cells alone: moves of the grid, of which every fifth is uniform.
    taken = (1 - SLIP) * torch.tensor([0.1, 0.4, 0.4, 0.1], dtype=F64) + SLIP / 4
    transition = torch.einsum("a,sat->st", taken, cells.transition)
    ends = cells.termination * cells.terminal_reward
    reward = ends @ taken - 0.01 * (1 - cells.termination @ taken)
    expected = torch.linalg.solve(torch.eye(47, dtype=F64) - 0.95 * transition, reward)
    torch.testing.assert_close(value, expected[:, None].expand(-1, POSITIONS))
    points = mdp.observation.reshape(47, POSITIONS, 2)
    assert len(torch.unique(mdp.observation, dim=0)) == 47 * POSITIONS
    # In units of cells each position lies within its own.
    corners = torch.tensor([[0, 0], [6, 5]], dtype=F64)
    inside = (points[[0, -1]] + 1) / 2 * 7 - corners[:, None]
    assert inside.min() > 0
    assert inside.max() < 1


@pytest.mark.parametrize("action", range(3))
def test_a_decision_of_the_car_is_that_of_the_environment(action):
    environment = gymnasium.make("MountainCar-v0").unwrapped
    starts = [(-0.5, 0.0), (-1.19, -0.05), (0.44, 0.06), (0.3, -0.02), (-0.9, 0.067)]
    place, speed, reached = car_after(*torch.tensor(starts, dtype=F64).T, action)
    for index, start in enumerate(starts):
        environment.reset()
        environment.state = start
        ended = False
        for _ in range(CAR_TIME_STEPS):
            _, _, ended, _, _ = environment.step(action)
            if ended:
                break
        assert bool(reached[index]) == ended
        assert environment.state == pytest.approx((float(place[index]), float(speed[index])))


@pytest.mark.parametrize("make", [tabulated_car, car_off_policy])
def test_the_table_of_the_car_keeps_the_means_of_position_and_speed(make):
    mdp = make()
    low, high = torch.tensor([LEFT_END, -TOP_SPEED]), torch.tensor([GOAL, TOP_SPEED])
    states = (mdp.observation + 1) / 2 * (high - low) + low
    for action in range(3):
        place, speed, _ = car_after(*states.T, action)
        # What may end leaves the table, and its mean with it.
        stays = mdp.termination[:, action] < 1e-12
        mean = mdp.transition[stays, action] @ states
        torch.testing.assert_close(mean, torch.stack([place, speed], 1)[stays])
        assert stays.sum() > 200


def test_the_car_is_worth_less_the_longer_its_way_and_off_policy_changes_only_who_acts():
    mdp, other = tabulated_car(), car_off_policy()
    value = chain(mdp).value()
    assert len(value) == 239
    # The state with the largest value ends with every action.
    assert value.max() == -1
    assert mdp.termination[value.argmax()].tolist() == [1, 1, 1]
    assert float(mdp.start @ value) == pytest.approx(-15.0834, abs=1e-4)
    torch.testing.assert_close(chain(other).value(), value)
    assert not torch.equal(chain(other).weighting, chain(mdp).weighting)


def test_the_noisy_grid_off_policy_acts_uniformly():
    mdp = noisy_grid_off_policy()
    assert torch.unique(mdp.behaviour).tolist() == [0.25]
    assert torch.equal(mdp.target, noisy_grid().target)
