"""What a run is computed with."""

import pytest
import torch

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.computing import (
    WORTH_THREADS,
    compilation,
    resolve_device,
    threads_for,
    torch_dtype,
)


def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"^--device cuda cannot be used: .*; use --device cpu or"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")


def test_precisions_are_those_of_torch():
    assert torch_dtype("float32") is torch.float32
    assert torch_dtype("float64") is torch.float64


def test_a_small_population_has_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert threads_for(WORTH_THREADS - 1) == 1
    assert threads_for(WORTH_THREADS) == 7


@pytest.mark.parametrize(
    ("choice", "worth", "available", "compiled"),
    [
        ("auto", True, True, True),
        ("auto", False, True, False),
        ("auto", True, False, False),
        ("on", False, True, True),
        ("off", True, True, False),
    ],
)
def test_what_is_worth_it_is_compiled_where_it_can_be(choice, worth, available, compiled):
    assert compilation(choice, worth=worth, available=available) == (compiled, None)


def test_a_compilation_that_is_asked_for_in_vain_is_warned_of():
    compiled, warning = compilation("on", worth=True, available=False)
    assert not compiled
    assert warning == ("warning: --compile on: there is no C++ compiler here, so the run is eager")
