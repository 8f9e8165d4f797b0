"""Everything that the compilers read changes the key of a program."""

import types

import pytest
import torch

from neural_tdc.compiled import program_key as module
from neural_tdc.compiled.program_key import program_key


def key(function="f", settings=None):
    return program_key(function, settings or {"cpp.threads": 1})


def test_function_and_settings_are_part_of_the_key():
    assert key() == key()
    found = {key(), key("g"), key(settings={"cpp.threads": 2}), key(settings={"cpp": 1})}
    assert len(found - {None}) == 4


@pytest.mark.parametrize(
    "name", ["TORCHINDUCTOR_CPP_SIMDLEN", "ATEN_CPU_CAPABILITY", "CXXFLAGS", "CPATH", "CXX"]
)
def test_variables_of_the_compilers_are_part_of_it(monkeypatch, name):
    before = key()
    monkeypatch.setenv(name, "other")
    assert key() != before


def test_where_caches_lie_is_not_and_without_caches_there_is_no_key(monkeypatch):
    before = key()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    assert key() == before is not None
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    assert key() is None


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (torch, "__version__", "2.99"),
        (torch.version, "git_version", "0"),
        (torch, "__file__", "elsewhere"),
        (module.sys, "version", "3.99"),
        (module.platform, "platform", lambda: "another system"),
        (module, "_processor", lambda: "another processor"),
        (module, "_cxx", lambda: [("/usr/bin/g++", 1, 2)]),
        (module, "_sources", lambda: "other sources of this package"),
        (torch, "get_num_threads", lambda: 99),
        (torch, "get_default_dtype", lambda: torch.float64),
        (torch, "are_deterministic_algorithms_enabled", lambda: "yes"),
    ],
)
def test_versions_the_machine_and_the_settings_of_torch_are_part_of_it(
    monkeypatch, owner, name, value
):
    before = key()
    monkeypatch.setattr(owner, name, value)
    assert key() != before


def test_settings_of_the_compiler_count_where_they_are_changed(monkeypatch):
    default = types.SimpleNamespace(default=1)
    config = types.SimpleNamespace(
        _config={"one": default, "two": default}, get_config_copy=lambda: {"one": 1, "two": 1}
    )
    monkeypatch.delitem(module.sys.modules, "torch._inductor.config", raising=False)
    before = key()
    monkeypatch.setitem(module.sys.modules, "torch._inductor.config", config)
    assert key() == before
    config.get_config_copy = lambda: {"one": 1, "two": 2}
    assert key() != before


def test_sources_that_cannot_be_read_give_no_key(monkeypatch):
    monkeypatch.setattr(module, "_sources", lambda: None)
    assert key() is None
