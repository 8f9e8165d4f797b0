import numpy as np
import pytest
import torch

from envs.control.policies import acrobot, cart_pole, drawn, mountain_car, probabilities, uniform

SAMPLE = np.zeros((5, 2), dtype=np.float32)


def returning(answer):
    def policy(observation):
        return answer

    return policy


def test_uniform_gives_every_action_the_same_probability():
    assert torch.equal(uniform(4)(torch.zeros(3, 2)), torch.full((3, 4), 0.25))


def test_mountain_car_pushes_along_its_velocity():
    observation = torch.tensor([[0.3, -0.01], [-0.5, 0.02]])
    expected = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    assert torch.allclose(mountain_car(0.3)(observation), expected)


def test_cart_pole_pushes_to_where_the_pole_leans_or_falls():
    observation = torch.tensor([[9.0, 9, 0.1, -0.2], [-9.0, -9, 0.1, -0.5]])
    expected = torch.tensor([[0.25, 0.75], [0.75, 0.25]])
    assert torch.allclose(cart_pole(0.5)(observation), expected)


def test_acrobot_turns_its_second_joint_on():
    observation = torch.tensor([[1.0, 0, 1, 0, -3, 2], [1.0, 0, 1, 0, 3, -2]])
    expected = torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    assert torch.allclose(acrobot(0.3)(observation), expected)


def test_probabilities_come_in_float64_from_tensors_and_arrays():
    for answer in (torch.full((5, 2), 0.5, requires_grad=True), np.full((5, 2), 0.5)):
        given = probabilities(returning(answer), SAMPLE, 2)
        assert given.dtype == np.float64
        assert (given == 0.5).all()


@pytest.mark.parametrize(
    "row",
    [[0.5, 0.4], [1.5, -0.5], [float("nan"), 1.0], [float("inf"), 0.0], [0.5, 0.5002]],
)
def test_rows_that_are_no_distribution_are_refused(row):
    answer = torch.full((5, 2), 0.5)
    answer[3] = torch.tensor(row)
    with pytest.raises(ValueError, match=rf"policy policy returned the row \[{row[0]}"):
        probabilities(returning(answer), SAMPLE, 2)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (1, 2), (5, 1, 2)])
def test_answers_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"must return probabilities \[5, 2\]"):
        probabilities(returning(torch.full(shape, 0.5)), SAMPLE, 2)


def test_answers_that_are_no_tensors_are_refused():
    with pytest.raises(ValueError, match="policy policy returned NoneType"):
        probabilities(returning(None), SAMPLE, 2)


def test_a_policy_that_fails_is_named():
    def failing(observation):
        return observation @ torch.zeros(3, 2)

    with pytest.raises(ValueError, match=r"policy failing failed on observations of shape \[5, 2"):
        probabilities(failing, SAMPLE, 2)


def test_actions_are_drawn_as_often_as_their_probabilities_say():
    probability = np.array([0.2, 0.0, 0.5, 0.3])
    grid = (np.arange(1000) + 0.5) / 1000
    action = drawn(np.tile(probability, (1000, 1)), grid)
    assert np.bincount(action, minlength=4).tolist() == [200, 0, 500, 300]


def test_actions_of_probability_0_are_never_drawn():
    probability = np.array([[0.0, 0.3, 0.7, 0.0]] * 2)
    assert drawn(probability, np.array([0.0, 1 - 2.0**-53])).tolist() == [1, 2]
    short = np.array([[0.1] * 7 + [0.3 - 1e-6, 0.0]])
    assert drawn(short, np.array([1 - 2.0**-53])).tolist() == [7]
