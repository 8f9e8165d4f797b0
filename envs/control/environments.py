"""Gymnasium environments by name, and what their spaces look like to a network."""

import importlib
import logging
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from envs.names import closest_names

# Environments that a package registers, by how their names begin: (package, module to import).
_PACKAGES = {
    "ALE/": ("ale-py", "ale_py"),
    "MinAtar/": ("minatar", "minatar.gym"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
}
# How environments that cut themselves call the number of steps after which they do.
_OWN_LIMITS = ("max_steps", "max_episode_steps", "_max_episode_steps", "time_limit", "max_cycles")
NO_LIMIT = 2**31 - 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _register(name: str) -> None:
    """Register the environments of the package that a name belongs to."""
    for beginning, (package, module) in _PACKAGES.items():
        if not name.startswith(beginning):
            continue
        # MinAtar complains of plotting libraries that only its pictures need.
        logging.disable(logging.WARNING)
        try:
            imported = importlib.import_module(module)
        except ImportError:
            raise ValueError(
                f"{name} needs the package {package}, which is not installed: pip install {package}"
            ) from None
        finally:
            logging.disable(logging.NOTSET)
        if not any(known.startswith(beginning) for known in gymnasium.registry):
            getattr(imported, "register_envs", lambda: None)()


def registered_name(name: str) -> str:
    """Register the environments that a name belongs to, and return it with its version.

    MinAtar's own names, such as MinAtar/Breakout, have none: they mean the minimal set of actions.
    ValueError: the package is not installed (with what to install).
    """
    _register(name)
    own = name.startswith("MinAtar/") and not name.rpartition("-v")[1]
    return f"{name}-v1" if own else name


def make(name: str) -> gymnasium.Env:
    """Make a registered environment, `module:ID` importing the module first, with its time limit.

    ValueError: there is no such environment (the nearest names are given), or it cannot be made
    because something that it needs is not installed (with what to install).
    """
    name = registered_name(name)
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


def raise_own_limits(environment: gymnasium.Env) -> list[str]:
    """Raise the limits by which an environment cuts its own episodes; return their names.

    These are whole numbers under one of the usual names. Whether it ends its episodes by them, and
    whether they matter for anything else, only trying can tell.
    """
    raised = []
    inner = environment.unwrapped
    for name in _OWN_LIMITS:
        limit = vars(inner).get(name)
        if isinstance(limit, int | np.integer) and not isinstance(limit, bool):
            setattr(inner, name, NO_LIMIT)
            raised.append(name)
    return raised


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
    becomes one-hot, everything else is flattened part by part the way `gymnasium.spaces.flatten`
    does it, without the parts that `parts_left_out` names.

    ValueError: the space, or a named part of it, has no flat form of a fixed size.
    """
    if isinstance(space, spaces.Box):
        return space.shape or (1,), lambda observation: observation
    if isinstance(space, spaces.Discrete):
        rows = np.eye(int(space.n), dtype=np.float32)
        start = int(space.start)
        return (int(space.n),), lambda observation: rows[observation - start]
    parts = [(path, part) for path, part in _parts(space) if not _is_foreign(part)]
    for path, part in parts:
        if not part.is_np_flattenable:
            whole = (
                "the observation space" if path == () else f"the observation part {_named(path)},"
            )
            raise ValueError(f"{name} has {whole} {part}, which has no fixed size")
    if not parts:
        raise ValueError(f"{name} has the observation space {space}, which holds no numbers")
    size = sum(spaces.flatdim(part) for _, part in parts)

    def encode(observation: Any) -> np.ndarray:
        flat = []
        for path, part in parts:
            value = observation
            for key in path:
                value = value[key]
            flat.append(np.asarray(spaces.flatten(part, value), dtype=np.float32))
        return np.concatenate(flat)

    return (size,), encode


def checked_observation(name: str, shape: tuple[int, ...], encoded: Any) -> np.ndarray:
    """Return an encoded observation in float32.

    Raises ValueError for another shape than that of its space.
    """
    try:
        found = np.asarray(encoded, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} returned the observation {encoded!r:.60}, which is not an array of numbers"
        ) from None
    if found.shape not in (shape, ()) or found.size != math.prod(shape):
        raise ValueError(
            f"{name} returned an observation of shape {list(found.shape)}, but its observation "
            f"space says {list(shape)}"
        )
    return found.reshape(shape)


def parts_left_out(space: gymnasium.Space) -> list[str]:
    """Return the names of the parts of observations that are no numbers, such as texts."""
    return [_named(path) for path, part in _parts(space) if path and _is_foreign(part)]


def _named(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _parts(
    space: gymnasium.Space, path: tuple[Any, ...] = ()
) -> list[tuple[tuple[Any, ...], gymnasium.Space]]:
    """Return the parts of a space of several, however deep, each with the keys that lead to it."""
    if isinstance(space, spaces.Dict):
        inner: list[tuple[Any, gymnasium.Space]] = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        return [(path, space)]
    return [found for key, part in inner for found in _parts(part, (*path, key))]


def _is_foreign(space: gymnasium.Space) -> bool:
    """Tell whether a space is a kind of its own, of which Gymnasium knows no numbers."""
    try:
        space.is_np_flattenable  # noqa: B018
    except NotImplementedError:
        return True
    return False
