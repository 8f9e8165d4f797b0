"""A device on which the library cannot learn is refused in one line, whoever is asked for it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from neural_tdc import evaluate
from neural_tdc.best_value import best_value
from neural_tdc.devices import checked_device
from neural_tdc.learning.preparation import prepare
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Transition, mapped


def stream():
    ones = torch.ones(9)
    return Transition(torch.zeros(9, 1), ones, 0.9 * ones, torch.zeros(9, 1), ones)


def evaluated(device):
    evaluate(stream(), steps=2, device=device)


def prepared(device):
    prepare(RULES["td"], None, torch.zeros(2, 3), runs=1, seed=0, device=device)


@pytest.mark.parametrize("ask", [evaluated, prepared])
@pytest.mark.parametrize("device", ["mps", "xpu:0", "gpu"])
def test_a_device_without_what_the_learner_needs_is_refused_by_its_name(ask, device):
    with pytest.raises(ValueError, match=f"^device '{device}' is not supported: use 'cpu' or"):
        ask(device)


def test_the_best_value_of_transitions_on_such_a_device_is_refused_too():
    with FakeTensorMode():
        there = mapped(stream(), lambda leaf: torch.empty_like(leaf, device="xpu"))
        with pytest.raises(ValueError, match=r"^device .xpu:0. is not supported"):
            best_value(there)


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=f"^device '{device}' is not there: .* {count} CUDA dev"):
        checked_device(device)
    if count:
        assert checked_device("cuda:1") == torch.device("cuda", 1)
