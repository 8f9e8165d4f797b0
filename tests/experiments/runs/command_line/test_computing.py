"""What a run is computed with."""

import ctypes
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.computing import (
    WORTH_THREADS,
    compilation,
    keep_memory,
    resolve_device,
    set_arithmetic,
    threads_for,
    torch_dtype,
)
from experiments.runs.folder.configuration import uses_tf32


@pytest.fixture
def restored_arithmetic(monkeypatch):
    """Put the switches of torch and the environment back after a test."""
    for name in ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC"):
        # To set it makes monkeypatch take it away afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    switches = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = switches
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.deterministic = False


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_computes_as_it_is_told(restored_arithmetic, monkeypatch, tf32, deterministic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = resolve_device("cuda", tf32=tf32, deterministic=deterministic)
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    assert [each.allow_tf32 for each in backends] == [tf32, tf32]
    assert uses_tf32(device) == tf32
    assert not uses_tf32(torch.device("cpu"))
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.deterministic == deterministic
    assert os.environ.get("TORCHINDUCTOR_DETERMINISTIC") == ("1" if deterministic else None)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic


def test_a_workspace_that_was_chosen_is_kept(restored_arithmetic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_arithmetic(False, True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_on_the_cpu_nothing_is_set(restored_arithmetic, monkeypatch):
    torch.backends.cudnn.allow_tf32 = True
    resolve_device("cpu", deterministic=True)
    assert torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_is(
    restored_arithmetic, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"^--device cuda cannot be used: .*; use --device cpu or"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")


def test_precisions_are_those_of_torch():
    assert torch_dtype("float32") is torch.float32
    assert torch_dtype("float64") is torch.float64


def test_the_allocator_keeps_what_was_freed(monkeypatch):
    set_to = {}
    library = SimpleNamespace(mallopt=set_to.__setitem__)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    keep_memory()
    # The numbers of <malloc.h>.
    assert set_to == {-1: 2**28, -3: 2**25}
    # Another library of C, another system.
    del library.mallopt
    keep_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    keep_memory()


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
    assert warning == (
        "warning: --compile on: there is no C++ compiler here (for a GPU: no Triton or no C "
        "compiler), so the run is eager"
    )
