"""Environments with a transition table are finite problems, exact to the last digit."""

import gymnasium
import pytest
import torch

from envs.control.environments import make
from envs.finite.finite_mdp import chain
from envs.finite.toy_text import toy_text_problem

F64 = torch.float64
# Its name in Gymnasium 1.2 and in newer versions.
TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"


def lake(rows, **options):
    return gymnasium.make("FrozenLake-v1", desc=rows, disable_env_checker=True, **options)


def made(name, environment):
    mdp = toy_text_problem(name, environment)
    environment.close()
    assert mdp is not None
    return mdp


def test_the_values_of_a_small_lake_by_hand():
    # S F / F G without slipping, under the uniform policy: by symmetry v(1) = v(2). From the start
    # half the actions stay and half lead on; from 1 and 2 half stay, a quarter leads back and a
    # quarter to the goal. With γ: v₀ = γ(v₀ + v₁)/2 and v₁ = γ(2v₁ + v₀)/4 + 1/4.
    mdp = made("lake", lake(["SF", "FG"], is_slippery=False))
    value = chain(mdp).value()
    gamma = 0.99
    near = 0.25 / (1 - gamma / 2 - (gamma / 4) * (gamma / 2) / (1 - gamma / 2))
    start = (gamma / 2) / (1 - gamma / 2) * near
    assert value[:3].tolist() == pytest.approx([start, near, near], rel=1e-12)
    assert (mdp.discount, mdp.name, len(mdp.start)) == (gamma, "lake", 4)
    assert mdp.start.tolist() == [1, 0, 0, 0]
    # Nobody is ever at the goal: entering it ends the episode.
    assert chain(mdp).weighting[3] == 0


def test_slipping_spreads_an_action_over_its_neighbours():
    # On a single row up and down stay; from the middle of S F G each action slips to either side
    # of it: "right" goes right, up or down with a third each.
    mdp = made("row", lake(["SFG"], is_slippery=True))
    left, right = 0, 2
    third = torch.tensor([1 / 3, 2 / 3], dtype=F64)
    torch.testing.assert_close(mdp.transition[1, left, :2], third)
    torch.testing.assert_close(mdp.transition[1, right, 1], torch.tensor(2 / 3, dtype=F64))
    assert mdp.termination[1].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert mdp.terminal_reward[1].tolist() == [0, 1, 1, 1]
    assert mdp.termination[0].tolist() == [0, 0, 0, 0]


def test_cliff_walking_right_along_the_edge_by_hand():
    # From the start up, eleven steps right, and down into the goal: 13 steps of −1.
    mdp = made("CliffWalking-v1", make("CliffWalking-v1"))
    target = torch.zeros_like(mdp.target)
    target[:, 1] = 1
    target[36] = torch.eye(4, dtype=F64)[0]
    target[35] = torch.eye(4, dtype=F64)[2]
    value = chain(mdp._replace(target=target, discount=0.9)).value()
    expected = -(1 - 0.9**13) / (1 - 0.9)
    assert float(value[36]) == pytest.approx(expected, rel=1e-12)
    assert float(value[35]) == pytest.approx(-1, rel=1e-12)
    # Into the cliff costs 100 and leads back to the start, without an end.
    assert mdp.transition[36, 1, 36] == 1
    assert mdp.reward[36, 1, 36] == -100


def test_a_taxi_that_always_drops_loses_ten_for_ever():
    mdp = made(TAXI, make(TAXI))
    drop = torch.zeros_like(mdp.target)
    drop[:, 5] = 1
    value = chain(mdp._replace(target=drop, discount=0.9)).value()
    start = int(mdp.start.argmax())
    assert float(value[start]) == pytest.approx(-10 / (1 - 0.9), rel=1e-12)
    assert float(mdp.start.sum()) == pytest.approx(1)
    assert mdp.notes == (
        f"{TAXI} is taken from its transition table, without its limit of 200 steps: its errors "
        "are exact",
    )


def test_an_environment_without_a_table_or_with_a_wrapper_is_none():
    for environment in (
        make("CartPole-v1"),
        make("Blackjack-v1"),
        gymnasium.wrappers.TransformReward(make("FrozenLake-v1"), lambda reward: 2 * reward),
    ):
        assert toy_text_problem("other", environment) is None
        environment.close()


def test_a_table_that_the_environment_does_not_follow_is_not_believed():
    environment = make("FrozenLake-v1")
    environment.unwrapped.P = {
        state: {action: [(1.0, state, 0.0, False)] for action in range(4)} for state in range(16)
    }
    # The environment reads the same table, so what it does is changed in another way.
    step = environment.unwrapped.step
    environment.unwrapped.step = lambda action: (5, *step(action)[1:])
    assert toy_text_problem("liar", environment) is None


def test_a_fickle_passenger_is_not_in_the_table():
    environment = gymnasium.make(TAXI, fickle_passenger=True, disable_env_checker=True)
    assert toy_text_problem("fickle", environment) is None
    environment.close()
