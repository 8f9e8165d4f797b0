"""Whole evaluations on a device that is not the CPU: nothing mixes the two, and values are those
of the CPU.

Updates that wait for the device are found by `tests/neural_tdc/learning/test_one_device.py`.
"""

import pytest
import torch

from neural_tdc import Transition, evaluate
from neural_tdc.baselines.methods import METHODS
from neural_tdc.best_value import best_value
from neural_tdc.types import mapped
from tests.neural_tdc.test_best_value import STATES, walk
from tests.pretended_device import DEVICE, PretendedDevice, There

LEARNING = {"steps": 6, "measure_every": 3, "runs": 3}


def streams():
    g = torch.Generator().manual_seed(0)
    observation, one = torch.randn(2, 61, 3, generator=g), torch.ones(2, 60)
    reward = torch.randn(2, 60, generator=g)
    return Transition(observation[:, :-1], reward, 0.9 * one, observation[:, 1:], one)


def on_both(evaluated):
    """Return what an evaluation gives on the CPU and on the pretended device, brought to the CPU.

    evaluated: from a device to a list of tensors, values first; measurements are on the CPU
    """
    with PretendedDevice():
        there = evaluated(DEVICE)
        assert isinstance(there[0], There)
        return evaluated("cpu"), [leaf.cpu() for leaf in there]


def results(transitions, device, **options):
    found = evaluate(transitions, device=device, **options)
    observation = transitions.observation.flatten(0, 1)[:4].to(device)
    return [found.value(observation), *found.measurements.values(), found.diverged]


def same(pair):
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "tdc", "optimizer": "adam"},
        {"rule": "td", "sampling": "sequences", "batch": 2, "trace_decay": 0.5},
        {"rule": "tdrc", "sampling": "replay", "schedule": "linear", "average": "all"},
        {"rule": "semi_gradient+lstd", "max_grad_norm": 1.0, "reward_scale": "auto"},
    ],
)
def test_a_rule_learns_and_is_measured_there(options):
    same(on_both(lambda device: results(streams(), device, **LEARNING, **options)))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_and_is_measured_there(name):
    method = METHODS[name]
    if "updates" in method.settings:
        method = method.with_settings(updates=5)
    same(on_both(lambda device: results(streams(), device, rule=method, runs=3)))


def test_values_of_actions_are_learned_there():
    def policy(observation):
        return torch.full((len(observation), 2), 0.5, dtype=torch.float64).to(observation.device)

    given = {"values": "q", "action": torch.arange(120).view(2, 60) % 2, "policy": policy}
    same(on_both(lambda device: results(streams(), device, **LEARNING, **given)))


def test_the_best_value_is_chosen_there():
    def found(device):
        stream = mapped(walk(400), lambda leaf: leaf.to(device))
        best = best_value(stream, width=6, updates=5, folds=2, resamples=2)
        return [best.value(STATES.to(device)), best.start_values]

    same(on_both(found))


def test_what_mixes_the_device_with_the_cpu_is_found():
    with PretendedDevice():
        there = torch.tensor([1.0, 2.0], device=DEVICE)
        assert (there + torch.tensor(1.0)).sum().item() == 5
        assert there.new_tensor([3.0]).cpu().tolist() == [3]
        assert there[[1, 0, 1]].cpu().tolist() == [2, 1, 2]
        with pytest.raises(AssertionError, match=r"add.Tensor takes tensors of cpu and meta"):
            there + torch.ones(2)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
