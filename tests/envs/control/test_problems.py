import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.control.collection import collect
from envs.control.problems import CONTROL_PROBLEMS, control_problem
from neural_tdc.types import Transition


class Strange(gymnasium.Env):
    """Has any spaces one wishes, observes a sample and never ends."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def strange(observation_space, action_space=None):
    return lambda: Strange(observation_space, action_space or spaces.Discrete(2))


@pytest.mark.parametrize("name", list(CONTROL_PROBLEMS))
def test_the_standard_problems_run_on_and_off_policy(name):
    on, off = control_problem(name), control_problem(name, behaviour="uniform")
    assert on.target is on.behaviour is off.target
    assert off.target is not off.behaviour
    assert on.discount == 0.99
    assert on.notes == off.notes == ()
    transition = collect(off, 2, 30, seed=0)
    assert isinstance(transition, Transition)
    densities = name == "Pendulum-v1"
    assert transition.ratio.unique().numel() == 2 or densities
    assert (transition.ratio[:, 1:] != transition.ratio[:, :1]).any()


def test_the_default_target_policies_are_competent():
    mountain_car = collect(control_problem("MountainCar-v0"), 5, 400, seed=0)
    assert (mountain_car.discount == 0).sum() >= 10
    balanced = collect(control_problem("CartPole-v1"), 5, 400, seed=0)
    fallen = collect(control_problem("CartPole-v1", target="uniform"), 5, 400, seed=0)
    assert (balanced.discount == 0).sum() * 5 < (fallen.discount == 0).sum()
    assert (collect(control_problem("Acrobot-v1"), 3, 300, seed=0).discount == 0).sum() >= 5


def test_any_registered_environment_takes_policies_of_ones_own():
    def left(observation):
        return torch.eye(4)[torch.zeros(len(observation), dtype=torch.long)]

    problem = control_problem("CliffWalking-v1", target=left, behaviour="uniform", discount=0.5)
    transition = collect(problem, 2, 50, seed=0)
    assert problem.name == "CliffWalking-v1"
    assert problem.notes == ()
    assert transition.discount.max() == 0.5
    assert set(transition.ratio.unique().tolist()) == {0.0, 4.0}


def test_without_a_policy_the_uniform_one_is_evaluated_and_a_note_says_so():
    problem = control_problem("CliffWalking-v1")
    assert problem.target is problem.behaviour
    assert problem.notes == (
        "CliffWalking-v1 has no policy of its own here: the uniform random one is evaluated",
    )


def test_discrete_observations_become_one_hot():
    seen = []

    def watching(observation):
        seen.append(observation)
        return torch.full((len(observation), 4), 0.25)

    transition = collect(control_problem("FrozenLake-v1", target=watching), 2, 80, seed=0)
    assert transition.observation.shape == (2, 80, 16)
    assert (transition.observation.sum(-1) == 1).all()
    assert (transition.observation[transition.first == 1][:, 0] == 1).all()
    assert torch.equal(seen[-1], transition.observation[:, -1])


def test_discrete_observations_may_start_anywhere():
    problem = control_problem(strange(spaces.Discrete(3, start=-4)))
    observation = collect(problem, 1, 40, seed=0).observation
    assert observation.shape == (1, 40, 3)
    assert (observation.sum(1) > 0).all()
    assert (observation.sum(-1) == 1).all()


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (spaces.Box(-1, 1, (2, 3), dtype=np.float64), (2, 3)),
        (spaces.Box(-1, 1, ()), (1,)),
        (spaces.MultiBinary(5), (5,)),
        (spaces.MultiDiscrete([2, 3]), (5,)),
        (spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (4,))]), (7,)),
        (spaces.Dict(a=spaces.MultiBinary(2), b=spaces.Discrete(4)), (6,)),
    ],
)
def test_other_observations_are_flattened_and_boxes_stay(space, shape):
    transition = collect(control_problem(strange(space)), 2, 4, seed=0)
    assert transition.next_observation.shape == (2, 4, *shape)
    assert transition.next_observation.dtype == torch.float32


def test_observations_without_a_fixed_size_are_refused():
    with pytest.raises(ValueError, match=r"observation space Sequence.*no fixed size"):
        control_problem(strange(spaces.Sequence(spaces.Discrete(2))))


def test_an_observation_that_is_not_of_its_space_is_refused():
    class Lying(Strange):
        def reset(self, *, seed=None, options=None):
            return np.zeros(1, dtype=np.float32), {}

    maker = lambda: Lying(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))  # noqa: E731
    with pytest.raises(ValueError, match=r"observation of shape \[1\].*says \[3\]"):
        control_problem(maker)


def test_arrays_of_whole_numbers_as_actions_are_refused():
    with pytest.raises(ValueError, match=r"has the action space Box.*int32.*only Discrete and Box"):
        control_problem(strange(spaces.Box(-1, 1, (2,)), spaces.Box(0, 3, (2,), dtype=np.int32)))


def test_several_actions_at_once_are_refused():
    with pytest.raises(ValueError, match="MultiDiscrete"):
        control_problem(strange(spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 2])))


@pytest.mark.parametrize("name", ["MountanCar-v0", "mountaincar-v0", "MountainCar-v9"])
def test_an_unknown_environment_is_refused_with_the_nearest_names(name):
    with pytest.raises(ValueError, match=rf"unknown environment '{name}'.*MountainCar-v0"):
        control_problem(name)


def test_a_malformed_name_is_refused():
    with pytest.raises(ValueError, match="unknown environment 'no such thing'"):
        control_problem("no such thing")


def test_a_missing_namespace_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ValueError, match=r"needs the package ale-py.*pip install ale-py"):
        control_problem("ALE/Pong-v5")
    with pytest.raises(ValueError, match=r"registered under Nowhere/.*some_module:Nowhere/Pong-v5"):
        control_problem("Nowhere/Pong-v5")


def test_a_missing_module_is_one_line():
    with pytest.raises(ValueError, match="nowhere:Pong-v5 cannot be made: No module named") as one:
        control_problem("nowhere:Pong-v5")
    assert "\n" not in str(one.value)


def test_what_is_no_environment_is_refused():
    with pytest.raises(ValueError, match="dict made dict; it must make a gymnasium"):
        control_problem(dict)


@pytest.mark.parametrize("discount", [-0.1, 1.01, float("nan")])
def test_a_discount_outside_0_and_1_is_refused(discount):
    with pytest.raises(ValueError, match=f"discount {discount}: it must lie between 0 and 1"):
        control_problem("CartPole-v1", discount=discount)


def test_an_unknown_policy_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown target policy 'defualt'.*default"):
        control_problem("CartPole-v1", target="defualt")
    with pytest.raises(ValueError, match=r"unknown behaviour policy 'xyz'.*default, soft, uniform"):
        control_problem("CartPole-v1", behaviour="xyz")
    with pytest.raises(ValueError, match=r"unknown target policy 'default'.*by name: uniform"):
        control_problem("CliffWalking-v1", target="default")
