"""Rows of two episodes without a mark between them."""

import numpy as np
import pytest
import torch
from torch import nn

from envs.logs.logged_problem import logged_problem


def stream(length=9, dtype=np.float32):
    following = np.arange(1, length + 1, dtype=dtype)[:, None]
    return {
        "observation": following - 1,
        "action": np.zeros(length, dtype=int),
        "reward": np.ones(length),
        "terminated": np.zeros(length, dtype=bool),
        "truncated": np.zeros(length, dtype=bool),
        "next_observation": following,
        "behaviour_probability": np.full(length, 0.5),
    }


def written(folder, arrays):
    np.savez(folder / "log.npz", **arrays)
    return folder / "log.npz"


def test_a_row_that_the_next_does_not_continue_is_a_cut_and_counted(tmp_path):
    arrays = stream()
    arrays["observation"][4:] += 100
    arrays["next_observation"][4:] += 100
    arrays["terminated"][6] = True
    arrays["observation"][7:] = 0.5
    arrays["next_observation"][7:] = 0.7
    problem = logged_problem(written(tmp_path, arrays), 0.9)
    # Row 6 ends by its mark; rows 3 and 7 do not say that they end.
    assert problem.transition.first[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 1, 1]
    assert problem.transition.discount[0].tolist() == [0.9] * 6 + [0.0] + [0.9] * 2
    assert problem.transition.next_observation[0, 3].tolist() == [4.0]
    (note,) = problem.notes
    assert "after 2 of 9 rows, first row 3, another observation follows" in note


def test_unmarked_cuts_give_the_stream_of_the_marked_ones(tmp_path):
    unmarked = stream()
    unmarked["observation"][4:] += 100
    unmarked["next_observation"][4:] += 100
    marked = {name: array.copy() for name, array in unmarked.items()}
    marked["truncated"][3] = True
    (tmp_path / "marked").mkdir()
    found = logged_problem(written(tmp_path, unmarked), 0.9)
    expected = logged_problem(written(tmp_path / "marked", marked), 0.9)
    assert all(map(torch.equal, found.transition, expected.transition))
    assert expected.notes == ()


@pytest.mark.parametrize("rounding", [1e-7, -3e-6])
def test_rounding_is_no_cut(tmp_path, rounding):
    arrays = stream(dtype=np.float64)
    arrays["next_observation"] = arrays["next_observation"] * (1 + rounding)
    problem = logged_problem(written(tmp_path, arrays), 0.9)
    assert problem.transition.first.sum() == 1
    assert problem.notes == ()


def test_without_next_observations_nothing_is_guessed(tmp_path):
    arrays = stream()
    arrays["observation"][4:] += 100
    del arrays["next_observation"]
    problem = logged_problem(written(tmp_path, arrays), 0.9)
    assert problem.transition.first.sum() == 1


def test_a_policy_in_training_mode_is_put_into_eval_mode_before_ratios(tmp_path):
    module = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2), nn.Softmax(1)).train()
    before = module[0].running_mean.clone()
    problem = logged_problem(written(tmp_path, stream()), 0.9, module)
    assert torch.equal(module[0].running_mean, before)
    assert "in training mode (BatchNorm1d): it was put into eval mode" in problem.notes[0]
    expected = 2 * module(torch.from_numpy(stream()["observation"]))[:, 0].double()
    assert torch.allclose(problem.transition.ratio[0], expected)


def test_a_policy_that_draws_by_itself_is_refused_on_a_log(tmp_path):
    def moody(observation):
        return torch.rand(len(observation), 2).softmax(1)

    with pytest.raises(
        ValueError, match="policy moody returned different answers for the same observation"
    ):
        logged_problem(written(tmp_path, stream()), 0.9, moody)


def test_an_object_that_samples_weights_a_log_by_its_own_probabilities(tmp_path):
    class Leaning:
        def sample(self, observation, generator):
            return (torch.rand(len(observation), generator=generator) > 0.2).long()

        def log_probability(self, observation, action):
            return torch.tensor([0.2, 0.8]).log()[action]

    arrays = stream()
    arrays["action"][3:] = 1
    ratio = logged_problem(written(tmp_path, arrays), 0.9, Leaning()).transition.ratio
    assert torch.allclose(ratio, torch.tensor([[0.4] * 3 + [1.6] * 6], dtype=torch.float64))
