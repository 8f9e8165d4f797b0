"""The door to the compiler of torch, which is private to torch.

Its import takes longer than that of torch itself, so it is imported when something is compiled.
Nothing else in the library imports it. A torch whose compiler is not the one expected is told by
one error, which names the versions that compiled programs were tried on.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

# Torch's own variable, which still decides where it is set.
PRECOMPILED_HEADERS = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"
# The versions of torch that compiled programs were tried on, first and last.
OLDEST, NEWEST = (2, 11), (2, 15)


class Compiler(NamedTuple):
    """What is used of torch's compiler, all of it private to torch.

    compile:      (graph, example inputs) → program
    settings:     `config.patch` of the compiler
    force_stride: the operation that has its argument stored
    fake_mode:    makes tensors that are shapes without numbers
    trace:        `make_fx`
    """

    compile: Callable[..., Any]
    settings: Callable[..., Any]
    force_stride: Any
    fake_mode: Callable[[], Any]
    trace: Callable[..., Any]


def compiler() -> Compiler:
    """Import the compiler; raises RuntimeError where this torch's is not the one expected."""
    if torch_version() < OLDEST:
        raise _incompatible("it is too old")
    try:
        inductor = importlib.import_module("torch._inductor")
        prims = importlib.import_module("torch._inductor.inductor_prims")
        fake_tensor = importlib.import_module("torch._subclasses.fake_tensor")
        proxy_tensor = importlib.import_module("torch.fx.experimental.proxy_tensor")
        shapes = importlib.import_module("torch.fx.experimental.symbolic_shapes")
        return Compiler(
            inductor.compile,
            inductor.config.patch,
            prims.force_stride_order,
            lambda: fake_tensor.FakeTensorMode(shape_env=shapes.ShapeEnv()),
            proxy_tensor.make_fx,
        )
    except (ImportError, AttributeError) as error:
        raise _incompatible(str(error)) from error


def compiler_settings() -> dict[str, Any]:
    """Return the settings of torch's compiler that all programs here are compiled with."""
    # It is not tried whether g++ knows the processor's instructions, which takes 7 s: one that can
    # compile torch's headers does.
    settings: dict[str, Any] = {"cpp.vec_isa_ok": True}
    if PRECOMPILED_HEADERS not in os.environ:
        # They cost as much as they save in five programs, and half a second of every process.
        settings["cpp_cache_precompile_headers"] = False
    return settings


def changed_settings() -> list[str]:
    """Return the compiler's settings that a user has changed in Python, without importing it."""
    # Who changes them has imported it.
    config = sys.modules.get("torch._inductor.config")
    if config is None:
        return []
    defaults = getattr(config, "_config", {})
    return [
        f"{name} = {value!r}"
        for name, value in sorted(config.get_config_copy().items())
        if name not in defaults or value != defaults[name].default
    ]


def import_compiler() -> None:
    """Import what the first compilation of a process needs, beforehand; else do nothing.

    It takes more than a second, in which a program may have nothing else to do than wait. What is
    wrong with the compiler is told when something is compiled.
    """
    with contextlib.suppress(RuntimeError, ImportError, AttributeError):
        inductor = compiler()
        importlib.import_module("torch._inductor.compile_fx")
        processor = importlib.import_module("torch._inductor.cpu_vec_isa")
        with inductor.settings(compiler_settings()):
            processor.pick_vec_isa()


def torch_version() -> tuple[int, int]:
    """Return major and minor version of torch."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _incompatible(reason: str) -> RuntimeError:
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
    return RuntimeError(
        f"compiled programs need torch {oldest} to {newest}, not {torch.__version__} ({reason}): "
        "install one of those, or learn without compilation"
    )


def graph_class() -> type:
    """Return the class of compiled graphs, whose calls have all inputs of the kernels."""
    found: type = importlib.import_module("torch._inductor.output_code").CompiledFxGraph
    return found


def compiled_library(source: str) -> ctypes.CDLL:
    """Compile C++ with the compiler's flags and load it; what was compiled before is found again.

    source: functions that are `extern "C"`
    """
    caches = importlib.import_module("torch._inductor.codecache")
    library: ctypes.CDLL = caches.CppCodeCache.load(source)
    return library


def compiler_available(device: torch.device) -> bool:
    """Tell whether programs can be compiled for the device here, without importing the compiler."""
    if torch_version() < OLDEST:
        return False
    if device.type == "cuda":
        # Triton calls a C compiler for what starts its kernels.
        named = bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))
        return named and importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
