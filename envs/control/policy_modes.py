"""Whether a policy is a function of the observation: networks in training mode, chance, memory."""

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.control.policies import Policy, policy_name

# How far a policy's functions, objects and closures are followed to its networks.
_DEPTH = 6
# Libraries whose own functions and objects are not looked into.
_LIBRARIES = ("torch", "numpy", "gymnasium")
# Layers that do something else in training mode, also under the names that TorchScript keeps.
_TRAINED_OTHERWISE = ("Dropout", "BatchNorm", "InstanceNorm", "RReLU")
_TOLERANCE = 1e-6


@torch.no_grad()
def settle(policy: Policy, ask: Callable[[], np.ndarray]) -> tuple[str, ...]:
    """Put the networks of a policy into eval mode, and check that it answers twice the same.

    policy:  a function, a module, or an object with methods
    ask:     asks it about some observations, always the same

    Returns a line where a network was in training mode and this made a difference. ValueError: two
    answers to the same observations differ.
    """
    training = [
        network
        for network in networks_of(policy)
        if any(layer.training for layer in network.modules())
    ]
    layers = {name for network in training for name in _mode_dependent(network)}
    # A first answer in training mode would move the statistics of a normalising layer.
    before = ask() if training and not layers else None
    for network in training:
        network.eval()
    answer = ask()
    if not np.allclose(ask(), answer, rtol=0, atol=_TOLERANCE):
        raise ValueError(
            f"the policy {policy_name(policy)} returned different answers for the same "
            "observation: it must be a function of the observation alone (possible causes: "
            "dropout, random numbers of its own, memory of earlier calls)"
        )
    if layers or (before is not None and not np.allclose(before, answer, rtol=0, atol=_TOLERANCE)):
        which = f" ({', '.join(sorted(layers))})" if layers else ""
        return (
            f"the policy {policy_name(policy)} had a network in training mode{which}: it was put "
            "into eval mode",
        )
    return ()


def networks_of(policy: Any) -> list[nn.Module]:
    """Return the networks that a policy uses: itself, its attributes, closure and globals."""
    found = {id(part): part for part in _parts(policy, _DEPTH, set())}
    return list(found.values())


def _parts(part: Any, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    if depth == 0 or id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, nn.Module):
        yield part
        return
    home = part.__module__ if isinstance(part, types.FunctionType) else type(part).__module__
    if str(home).partition(".")[0] in _LIBRARIES:
        return
    inner: list[Any] = []
    if isinstance(part, functools.partial):
        inner = [part.func, *part.args, *part.keywords.values()]
    elif isinstance(part, types.MethodType):
        inner = [part.__self__, part.__func__]
    elif isinstance(part, types.FunctionType):
        inner = [*_used_by(part)]
    elif isinstance(part, list | tuple):
        inner = list(part)
    elif isinstance(part, dict):
        inner = list(part.values())
    elif hasattr(part, "__dict__") and not isinstance(part, type | types.ModuleType):
        inner = [*vars(part).values(), vars(type(part)).get("__call__")]
    for each in inner:
        yield from _parts(each, depth - 1, seen)


def _used_by(function: types.FunctionType) -> Iterator[Any]:
    """Yield the values of the names that a function uses from outside."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # Not filled yet.
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _mode_dependent(network: nn.Module) -> set[str]:
    """Return the names of the layers in training mode that then compute something else."""
    layers = [layer for layer in network.modules() if layer.training]
    names = {str(getattr(layer, "original_name", type(layer).__name__)) for layer in layers}
    return {name for name in names if any(kind in name for kind in _TRAINED_OTHERWISE)}
