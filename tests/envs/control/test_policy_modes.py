"""Policies in training mode are put into eval mode; those that are no functions are refused."""

import functools

import pytest
import torch
from torch import nn

from envs.control.collection import collect
from envs.control.policy_modes import networks_of
from envs.control.problems import control_problem


def network(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 2), nn.Softmax(1))


class Holder:
    def __init__(self, module):
        self.parts = {"actor": [module]}

    def act(self, observation):
        return self.parts["actor"][0](observation)

    def __call__(self, observation):
        return self.act(observation)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, observation):
        return self.inner(nn.functional.dropout(observation, 0.5, self.training))


GLOBAL = network(nn.Dropout(0.5))


def by_global(observation):
    return GLOBAL(observation)


def by_partial(module, observation):
    return module(observation)


WAYS = {
    "module": lambda module: module,
    "closure": lambda module: lambda observation: module(observation),
    "method": lambda module: Holder(module).act,
    "object": Holder,
    "partial": lambda module: functools.partial(by_partial, module),
    "traced": lambda module: torch.jit.script(module),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(6)], ids=["dropout", "norm"])
@pytest.mark.parametrize("way", WAYS)
def test_a_network_in_training_mode_is_put_into_eval_mode_with_a_line(way, layer):
    module = network(layer).train()
    if isinstance(layer, nn.BatchNorm1d):
        layer.running_mean = torch.arange(6.0)
    expected = network(layer).eval()(torch.ones(3, 4))
    module.train()
    policy = WAYS[way](module)
    problem = control_problem("CartPole-v1", policy)
    (note,) = problem.notes
    assert f"in training mode ({type(layer).__name__}): it was put into eval mode" in note
    assert torch.equal(policy(torch.ones(3, 4)), expected)


def test_a_network_among_the_globals_of_a_function_is_found():
    GLOBAL.train()
    (note,) = control_problem("CartPole-v1", by_global).notes
    assert "by_global had a network in training mode (Dropout)" in note
    assert not GLOBAL.training


def test_dropout_of_a_forward_of_ones_own_is_noticed_by_the_answers():
    module = Noisy()
    (note,) = control_problem("CartPole-v1", module).notes
    assert note.endswith("had a network in training mode: it was put into eval mode")


def test_a_network_whose_mode_makes_no_difference_is_not_mentioned():
    module = network(nn.Tanh())
    assert control_problem("CartPole-v1", module).notes == ()
    assert not module.training


def test_experience_is_that_of_the_policy_in_eval_mode():
    module = network(nn.Dropout(0.9))
    calm = network(nn.Dropout(0.9)).eval()
    acted = collect(control_problem("CartPole-v1", module), 2, 60, seed=0)
    expected = collect(control_problem("CartPole-v1", calm), 2, 60, seed=0)
    assert all(map(torch.equal, acted, expected))


def test_a_policy_that_draws_by_itself_is_refused():
    def moody(observation):
        return torch.rand(len(observation), 2).softmax(1)

    with pytest.raises(
        ValueError, match="policy moody returned different answers for the same observation"
    ):
        control_problem("CartPole-v1", moody)


def test_a_policy_that_remembers_is_refused():
    def counting(observation):
        counting.calls += 1
        right = torch.full((len(observation), 1), 1 / (1 + counting.calls))
        return torch.cat([1 - right, right], 1)

    counting.calls = 0
    with pytest.raises(ValueError, match="policy counting returned different answers"):
        control_problem("CartPole-v1", "uniform", behaviour=counting)


def test_networks_that_refer_to_each_other_are_found_once():
    holder = Holder(network())
    holder.itself = holder
    assert networks_of(holder) == holder.parts["actor"]
