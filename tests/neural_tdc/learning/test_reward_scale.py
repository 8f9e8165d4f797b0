"""Rewards divided by a scale change what a step size means, not the unit of what comes out."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from neural_tdc import RULES, Transition, evaluate
from neural_tdc.learning.reward_scale import (
    fixed_reward_scale,
    in_reward_units,
    scale_of_returns,
    with_scaled_rewards,
)
from neural_tdc.types import Parameters

F64 = torch.float64
TIME, STATE = 60, 3


def stream(unit=1.0):
    g = torch.Generator().manual_seed(0)
    observation = torch.randn(TIME + 1, STATE, generator=g, dtype=F64)
    reward = unit * observation[1:].sum(1)
    ratio = 0.5 + torch.rand(TIME, generator=g, dtype=F64)
    discount = torch.full_like(reward, 0.75)
    return Transition(observation[:-1], reward, discount, observation[1:], ratio)


def learned(unit=1.0, **options):
    chosen = {"rule": "tdc", "steps": 25, "optimizer": "adam", "head_step": 0.05, "body_step": 0.01}
    return evaluate(stream(unit), **{**chosen, **options})


# Powers of two scale without rounding: what is equal, is equal to the bit.
def test_a_reward_in_another_unit_is_learned_alike_and_given_back_in_its_unit():
    plain, other = learned(), learned(1024.0, reward_scale=1024.0)
    observation = stream().observation
    assert torch.equal(1024 * plain.value(observation), other.value(observation))
    assert float(plain.value(observation).abs().max()) > 0.1
    for name in ("error/rmspbe", "error/rmstde", "tracking_error/head", "norm/head"):
        expected = 1024 * plain.measurements[name]
        assert torch.allclose(other.measurements[name], expected, rtol=1e-9), name
    assert torch.equal(1024 * plain.parameters.auxiliary["tdc"], other.parameters.auxiliary["tdc"])
    # Without the scale Adam, whose steps know no unit, learns something else.
    assert not torch.allclose(other.value(observation), learned(1024.0).value(observation))


@pytest.mark.parametrize("name", RULES)
def test_every_rules_parameters_have_the_unit_of_the_rewards(name):
    options = {"rule": name, "optimizer": "sgd", "steps": 6, "average": "all", "average_after": 2}
    plain, other = learned(**options), learned(4.0, reward_scale=4.0, **options)
    observation = stream().observation
    assert torch.equal(4 * plain.value(observation), other.value(observation))
    for mine, theirs in zip(
        tree_leaves(plain.parameters.body), tree_leaves(other.parameters.body), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_auto_makes_the_values_follow_the_unit_of_the_rewards():
    options = {"reward_scale": "auto", "steps": 10}
    plain, other = learned(**options), learned(8.0, **options)
    observation = stream().observation
    assert torch.allclose(8 * plain.value(observation), other.value(observation), rtol=1e-6)


def test_the_scale_is_the_deviation_of_the_returns():
    # Two episodes of two transitions with γ = 1/2: the returns are 2, 2, -3 and -2.
    transitions = Transition(
        torch.zeros(4, 2),
        torch.tensor([1.0, 2.0, -2.0, -2.0], dtype=F64),
        torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=F64),
        torch.zeros(4, 2),
        torch.ones(4, dtype=F64),
        torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=F64),
    )
    returns = torch.tensor([2.0, 2.0, -3.0, -2.0], dtype=F64)
    assert scale_of_returns(transitions) == pytest.approx(float(returns.std(unbiased=False)))
    doubled = with_scaled_rewards(transitions, 0.5)
    assert doubled.reward.tolist() == [2, 4, -4, -4]
    assert with_scaled_rewards(transitions, 1.0) is transitions


def test_a_stream_of_numbers_of_states_has_a_scale_too():
    rows = torch.arange(6).view(2, 3)
    reward = torch.full((2, 3), 3.0)
    transitions = Transition(rows, reward, torch.full_like(reward, 0.9), rows, torch.ones(2, 3))
    # No return is complete and no two rewards differ: E|r|/(1 − γ).
    assert scale_of_returns(transitions) == pytest.approx(30)
    nothing = transitions._replace(reward=torch.zeros(2, 3))
    assert scale_of_returns(nothing) == 1


def test_the_head_and_the_auxiliary_vectors_are_scaled_and_the_body_is_not():
    one = torch.ones(2, 3)
    parameters = Parameters({"w": one}, one, {"tdc": one, "body": {"w": one}})
    scaled = in_reward_units(parameters, 5.0)
    assert scaled.head.unique().tolist() == scaled.auxiliary["tdc"].unique().tolist() == [5]
    assert scaled.body["w"].unique().tolist() == scaled.auxiliary["body"]["w"].unique().tolist()
    assert in_reward_units(parameters, 1.0) is parameters


def test_a_scale_is_auto_none_or_a_number_above_0():
    assert fixed_reward_scale("auto") is None
    assert fixed_reward_scale("none") == 1
    assert fixed_reward_scale("2.5") == 2.5
    for text in ("0", "-1", "inf", "nan", "automatic"):
        with pytest.raises(ValueError, match=f"reward scale '{text}' is not auto, none or a"):
            fixed_reward_scale(text)
