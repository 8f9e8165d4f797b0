"""One definition of a finite problem: its simulator, its chain and its expectations agree."""

import pytest
import torch

from envs.finite.finite_mdp import chain, checked_mdp, finite_mdp
from envs.finite.standard_problems import baird, boyan
from envs.finite.streams import exact_transitions

F64 = torch.float64


def test_what_is_left_out_has_friendly_defaults():
    mdp = finite_mdp([[[0, 1], [1, 0]], [[0.5, 0.5], [1, 0]]], torch.zeros(2, 2, 2), 0.5)
    half = torch.full((2, 2), 0.5, dtype=F64)
    assert torch.equal(mdp.target, half)
    assert torch.equal(mdp.behaviour, half)
    assert torch.equal(mdp.termination, torch.zeros(2, 2, dtype=F64))
    assert mdp.start.tolist() == [0.5, 0.5]
    assert torch.equal(mdp.observation, torch.eye(2, dtype=F64))
    assert torch.equal(mdp.features, torch.eye(2, dtype=F64))
    assert mdp.initial_head is None
    assert mdp.width == 1


def test_one_policy_stands_for_both():
    tables = torch.ones(2, 3, 2) / 2, torch.zeros(2, 3, 2)
    policy = [[0.25, 0.25, 0.5], [1, 0, 0]]
    by_target = finite_mdp(*tables, 0.5, target=policy)
    by_behaviour = finite_mdp(*tables, 0.5, behaviour=policy)
    assert by_target.target.tolist() == by_target.behaviour.tolist() == policy
    assert by_behaviour.target.tolist() == policy
    assert torch.equal(exact_transitions(by_target)[0].ratio, torch.ones(8, dtype=F64))


def test_nested_lists_are_read_in_double_precision():
    mdp = finite_mdp([[[0.1, 0.9]], [[0.3, 0.7]]], [[[0.1, 0.2]], [[0.3, 0.4]]], 0.5)
    assert mdp.reward.dtype == F64
    assert mdp.reward[0, 0, 0].item() == 0.1


def test_a_problem_does_not_share_memory_with_what_was_given():
    reward = torch.zeros(2, 1, 2, dtype=F64)
    mdp = finite_mdp(torch.full((2, 1, 2), 0.5), reward, 0.5)
    reward.fill_(7)
    assert mdp.reward.sum() == 0


def test_a_table_of_single_precision_is_made_to_sum_to_one():
    transition = torch.full((3, 1, 3), 1 / 3)
    sums = finite_mdp(transition, torch.zeros(3, 1, 3), 0.5).transition.sum(-1)
    torch.testing.assert_close(sums, torch.ones(3, 1, dtype=F64), atol=1e-15, rtol=0)


def test_checking_twice_changes_nothing():
    mdp = baird()
    for once, twice in zip(mdp, checked_mdp(mdp)):
        if isinstance(once, torch.Tensor):
            torch.testing.assert_close(twice, once, atol=1e-15, rtol=0)
        else:
            assert once == twice


def test_a_hand_made_problem_is_refused_when_checked():
    with pytest.raises(ValueError, match="target of state 0 sums to 2"):
        checked_mdp(boyan()._replace(target=torch.full((12, 1), 2.0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": torch.full((2, 3, 2), 0.75)}, r"of state 0, action 0 sums to 1\.5"),
        ({"transition": [[[1, 0], [1, 0], [0.5, 0.2]]] * 2}, r"state 0, action 2 sums to 0\.7"),
        ({"termination": [[0, 0, 0], [0, 0.5, 0]]}, r"of state 1, action 1 sums to 1\.5"),
        ({"transition": [[[1, 0], [2, -1], [1, 0]]] * 2}, "state 0, action 1 .*probability -1"),
        ({"transition": torch.ones(2, 2)}, r"transition must have shape \(states, actions, st"),
        ({"transition": torch.ones(2, 3, 4) / 4}, r"transition must have shape .*\(2, 3, 4\)"),
        ({"transition": torch.ones(0, 3, 0)}, "transition must have shape"),
        ({"transition": "a"}, "transition is not a table of numbers"),
        ({"transition": [[[1, 0]], [[1]]]}, "transition is not a table of numbers"),
        ({"reward": torch.zeros(2, 3)}, r"reward must have shape \(2, 3, 2\), not \(2, 3\)"),
        ({"reward": None}, "reward is not a table of numbers"),
        ({"reward": torch.full((2, 3, 2), torch.nan)}, r"reward .* not finite, at \(0, 0, 0\)"),
        ({"terminal_reward": torch.zeros(2, 2)}, r"terminal_reward must have shape \(2, 3\)"),
        ({"start": [0.5, 0.4]}, r"start sums to 0\.9"),
        ({"start": [1.5, -0.5]}, r"start has the negative probability -0\.5"),
        ({"start": [1, 0, 0]}, r"start must have shape \(2\), not \(3,\)"),
        ({"target": [[1, 0, 0], [0.5, 0.4, 0]]}, r"target of state 1 sums to 0\.9"),
        ({"behaviour": [[2, -1, 0]] * 2}, "behaviour of state 0 has the negative"),
        (
            {"target": [[1, 0, 0]] * 2, "behaviour": [[1, 0, 0], [0, 1, 0]]},
            "takes action 0 in state 1, but the behaviour",
        ),
        ({"discount": 1.5}, r"discount is 1\.5"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"discount": 1.0}, "discount is 1 on a chain that never ends from state 0"),
        ({"transition": [[[1, 0]] * 3, [[0, 1]] * 3]}, "no single stationary distribution"),
        ({"observation": torch.zeros(3, 1)}, r"observation must have shape \(2, numbers\)"),
        ({"features": torch.zeros(2)}, r"features must have shape \(2, features\)"),
        ({"features": torch.full((2, 1), torch.inf)}, "features holds a number"),
        ({"initial_head": [1.0, 2.0, 3.0]}, r"initial_head must have shape \(2\)"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_what_is_no_problem_is_refused_in_one_line(changes, message):
    sound = {
        "transition": torch.full((2, 3, 2), 0.5),
        "reward": torch.zeros(2, 3, 2),
        "discount": 0.9,
    }
    finite_mdp(**sound)
    with pytest.raises(ValueError, match=message) as caught:
        finite_mdp(**{**sound, **changes})
    assert "\n" not in str(caught.value)


def test_chain_by_hand():
    # Two states, two actions. Action 0 stays (reward 1), action 1 goes to the other state from 0
    # (reward 2) and ends from 1 (reward 10). Target (¼, ¾), behaviour (½, ½), start in 0.
    transition = [[[1, 0], [0, 1]], [[0, 1], [0, 0]]]
    reward = [[[1, 0], [0, 2]], [[0, 1], [0, 0]]]
    mdp = finite_mdp(
        transition=transition,
        reward=reward,
        discount=1.0,
        termination=[[0, 0], [0, 1]],
        terminal_reward=[[0, 0], [0, 10]],
        start=[1, 0],
        target=[[0.25, 0.75]] * 2,
        behaviour=[[0.5, 0.5]] * 2,
    )
    exact = chain(mdp)
    assert exact.transition.tolist() == [[0.25, 0.75], [0, 0.25]]
    assert exact.reward.tolist() == [0.25 + 1.5, 0.25 + 7.5]
    # v₁ = 7.75 / .75 and v₀ = (1.75 + .75 v₁) / .75
    torch.testing.assert_close(exact.value(), torch.tensor([38 / 3, 31 / 3], dtype=F64))
    # Under the behaviour either state is left half of the time, so both weigh the same.
    torch.testing.assert_close(exact.weighting, torch.tensor([0.5, 0.5], dtype=F64))
