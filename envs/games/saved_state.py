"""The state of a Gymnasium environment as plain values, and back.

An environment is a stack of objects. What of them changes is numbers, arrays, containers of these
and random generators; everything else (spaces, tables, pictures) is taken to stay as it was made.
Whether that holds for an environment is not assumed but tried, by `can_be_saved`.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

_PLAIN = (bool, int, float, str, type(None))
# How deep objects may lie in one another, so that a circle comes to an end.
_DEPTH = 6
# Steps that the trial takes before and after it saves.
_BEFORE, _AFTER = 7, 40


class _Unknown(Exception):
    """A value that is neither plain nor made of plain values."""


def _saved(value: Any, depth: int = 0) -> Any:
    """Return a value as [kind, content] of plain values and tensors; _Unknown where there is none.

    Whole numbers are kept as text: a generator's state has more digits than an integer of 64 bits.
    """
    if isinstance(value, np.random.Generator):
        return ["generator", _saved(value.bit_generator.state, depth)]
    if isinstance(value, np.random.RandomState):
        return ["random state", _saved(value.get_state(legacy=False), depth)]
    if isinstance(value, np.generic):
        return ["scalar", [value.dtype.str, _saved(value.item())]]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        content = torch.from_numpy(np.frombuffer(value.tobytes(), dtype=np.uint8).copy())
        return ["array", [value.dtype.str, list(value.shape), content]]
    if type(value) is int:
        return ["int", str(value)]
    if type(value) in _PLAIN:
        return ["plain", value]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_saved(item, depth) for item in value]]
    if type(value) is dict and all(type(key) is str for key in value):
        return ["dict", {key: _saved(item, depth) for key, item in value.items()}]
    if depth < _DEPTH and _is_part(value):
        return ["object", _saved_object(value, depth + 1)]
    raise _Unknown


def _is_part(value: Any) -> bool:
    """Tell whether a value is an object with attributes of its own that may change."""
    return (
        hasattr(value, "__dict__")
        and not callable(value)
        and not isinstance(value, gymnasium.Space | type)
        and type(value).__module__.partition(".")[0] not in ("numpy", "torch")
        and type(value).__name__ != "EnvSpec"
    )


def _saved_object(value: Any, depth: int = 0) -> dict[str, Any]:
    saved = {}
    for name, part in vars(value).items():
        try:
            saved[name] = _saved(part, depth)
        except _Unknown:
            continue
    return saved


def _restored(saved: Any, present: Any) -> Any:
    """Return the value that was saved; objects and generators are changed where they are."""
    kind, content = saved
    if kind == "generator":
        present.bit_generator.state = _restored(content, None)
        return present
    if kind == "random state":
        present.set_state(_restored(content, None))
        return present
    if kind == "object":
        _restore_object(present, content)
        return present
    if kind == "scalar":
        return np.dtype(content[0]).type(_restored(content[1], None))
    if kind == "array":
        dtype, shape, data = content
        return np.frombuffer(data.numpy().tobytes(), dtype=dtype).reshape(shape).copy()
    if kind == "int":
        return int(content)
    if kind in ("list", "tuple"):
        items = [_restored(item, None) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _restored(item, None) for key, item in content.items()}
    return content


def _restore_object(value: Any, saved: dict[str, Any]) -> None:
    for name, part in saved.items():
        try:
            vars(value)[name] = _restored(part, vars(value).get(name))
        except AttributeError:
            raise ValueError(
                f"the saved state does not fit: {type(value).__name__} has no {name}"
            ) from None


def save(environment: gymnasium.Env) -> dict[str, Any]:
    """Return the state of an environment as tensors and plain values."""
    return _saved_object(environment)


def load(environment: gymnasium.Env, state: dict[str, Any]) -> None:
    """Put an environment, made and reset like the saved one, into a saved state."""
    _restore_object(environment, state)


def can_be_saved(make: Callable[[], gymnasium.Env]) -> bool:
    """Tell whether an environment in the saved state of another one continues like that one."""
    one, other = make(), make()
    try:
        rng = np.random.default_rng(0)
        actions = int(getattr(one.action_space, "n"))  # noqa: B009
        start = int(getattr(one.action_space, "start"))  # noqa: B009
        one.reset(seed=1)
        other.reset(seed=2)
        # From one episode into the next, so that a reset draws from the generators too.
        _live(one, start + rng.integers(actions, size=_BEFORE))
        load(other, save(one))
        future = start + rng.integers(actions, size=_AFTER)
        return _live(one, future) == _live(other, future)
    except Exception:  # whatever an environment's own parts raise where they do not fit
        return False
    finally:
        one.close()
        other.close()


def _live(environment: gymnasium.Env, actions: np.ndarray) -> list[tuple[bytes, float, bool]]:
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, _ = environment.step(action)
        seen.append((np.asarray(observation).tobytes(), float(reward), bool(terminated)))
        if terminated or truncated:
            observation, _ = environment.reset()
            seen.append((np.asarray(observation).tobytes(), 0.0, False))
    return seen
