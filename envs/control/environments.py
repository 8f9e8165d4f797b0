"""Gymnasium environments by name, and what their spaces look like to a network."""

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from envs.names import closest_names

# Namespaces that register on import: (package to install, module to import).
_NAMESPACES = {"ALE": ("ale-py", "ale_py")}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _register_namespace(name: str) -> None:
    namespace = name.rpartition("/")[0]
    if ":" in name or namespace not in _NAMESPACES:
        return
    package, module = _NAMESPACES[namespace]
    try:
        gymnasium.register_envs(importlib.import_module(module))
    except ImportError:
        raise ValueError(
            f"{name} needs the package {package}, which is not installed: pip install {package}"
        ) from None


def make(name: str) -> gymnasium.Env:
    """Make a registered environment, `module:ID` importing the module first, with its time limit.

    ValueError: there is no such environment (the nearest names are given), or it cannot be made
    because something that it needs is not installed (with what to install).
    """
    _register_namespace(name)
    try:
        return gymnasium.make(name, disable_env_checker=True)
    except gymnasium.error.NamespaceNotFound:
        namespace = name.rpartition("/")[0]
        raise ValueError(
            f"no environments are registered under {namespace}/: install the package that "
            f"provides them and name its module too, as in some_module:{name}"
        ) from None
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv):
        pass
    except Exception as error:
        # A malformed name is the base class of Gymnasium's errors.
        if type(error) is not gymnasium.error.Error:
            raise ValueError(f"{name} cannot be made: {_one_line(error)}") from error
    matches = ", ".join(closest_names(name, gymnasium.registry)) or "none"
    raise ValueError(
        f"unknown environment {name!r}; nearest registered names: {matches} (module:ID imports "
        "the module that registers ID first)"
    )


def without_time_limit(environment: gymnasium.Env) -> gymnasium.Env:
    """Take the time limits (and the check of the calls' order) off a stack of wrappers."""
    while isinstance(environment, TimeLimit | OrderEnforcing):
        environment = environment.env
    layer = environment
    while isinstance(layer, gymnasium.Wrapper):
        while isinstance(layer.env, TimeLimit):
            layer.env = layer.env.env
        layer = layer.env
    return environment


def discrete_actions(name: str, space: gymnasium.Space) -> tuple[int, int]:
    """Return how many actions there are and the first one's number.

    ValueError: the actions are not one discrete choice.
    """
    if not isinstance(space, spaces.Discrete):
        raise ValueError(
            f"{name} has the action space {space}; only discrete actions (Discrete) can be "
            "evaluated here"
        )
    return int(space.n), int(space.start)


def observation_encoder(
    name: str, space: gymnasium.Space
) -> tuple[tuple[int, ...], Callable[[Any], Any]]:
    """Return the shape of an encoded observation and the function that encodes one.

    A Box stays as it is (a scalar becomes a vector of one component), a Discrete observation
    becomes one-hot, everything else is flattened the way `gymnasium.spaces.flatten` does it.

    ValueError: the space has no flat form of a fixed size.
    """
    if isinstance(space, spaces.Box):
        return space.shape or (1,), lambda observation: observation
    if isinstance(space, spaces.Discrete):
        rows = np.eye(int(space.n), dtype=np.float32)
        start = int(space.start)
        return (int(space.n),), lambda observation: rows[observation - start]
    if not space.is_np_flattenable:
        raise ValueError(f"{name} has the observation space {space}, which has no fixed size")
    return (spaces.flatdim(space),), lambda observation: spaces.flatten(space, observation)
