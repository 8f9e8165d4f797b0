"""Updates on a device are those of the function, compiled or not, and survive a failed compiler."""

import pytest
import torch

from neural_tdc.compiled import device_updates as module
from neural_tdc.compiled.device_updates import device_updates


def program_of(function, carried, constant):
    def program(carried, constant, calls):
        assert calls == 1
        return function(carried, constant)

    return program


def fails(*_, **__):
    raise RuntimeError("PassManager::run failed\nfor a kernel")


@pytest.mark.parametrize("compiled", [False, True])
def test_the_function_is_repeated_with_its_constant(monkeypatch, compiled):
    monkeypatch.setattr(module, "compile_repeatable", program_of)
    repeat = device_updates(
        lambda x, factor: x * factor + 1,
        torch.tensor([1.0, 2.0]),
        torch.tensor(3.0),
        compiled=compiled,
    )
    assert repeat(torch.tensor([1.0, 2.0]), 2).tolist() == [13.0, 22.0]
    assert repeat(torch.tensor([1.0, 2.0]), 0).tolist() == [1.0, 2.0]


def test_a_compiler_that_fails_is_named_and_the_updates_are_taken_without(monkeypatch):
    monkeypatch.setattr(module, "compile_repeatable", fails)
    with pytest.warns(RuntimeWarning, match="cannot be compiled .* PassManager::run failed for a"):
        repeat = device_updates(lambda x, factor: x * factor, torch.ones(2), 2.0, compiled=True)
    assert repeat(torch.ones(2), 3).tolist() == [8.0, 8.0]


def test_a_program_that_fails_at_its_first_call_is_one_that_cannot_be_compiled(monkeypatch):
    monkeypatch.setattr(module, "compile_repeatable", lambda *_, **__: fails)
    with pytest.warns(RuntimeWarning, match="cannot be compiled"):
        repeat = device_updates(lambda x, factor: x + factor, torch.ones(2), 2.0, compiled=True)
    assert repeat(torch.ones(2), 1).tolist() == [3.0, 3.0]
