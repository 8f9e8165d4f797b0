"""What is tried on an environment before anything is collected from it.

Experience must follow from a seed, and rewards and observations must not depend on how long an
environment was used. What breaks this is mended where it can be, and named in a line.
"""

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium

from envs.control.environments import checked_observation
from envs.control.global_chance import OwnChance, drawn_from, global_state

# Random actions that an environment is tried with.
_TRIED = 50
# Seconds after which an environment that is slow is tried no longer.
_SECONDS = 5.0

_Make = Callable[[], gymnasium.Env]


def inspected(
    name: str, make: _Make, shape: tuple[int, ...], encode: Callable[[Any], Any]
) -> tuple[_Make, tuple[str, ...]]:
    """Try an environment; return a function that makes a mended one, and a line for each fault.

    name:    what the lines call the environment
    make:    makes a new one at every call
    shape, encode: of an observation in numbers, and the function that makes it so

    Running statistics of wrappers are frozen as they are in a new environment. An environment that
    draws from a global generator is given one of its own. Chance that neither `reset(seed=…)` nor a
    global generator sets is only named.
    """
    show = partial(_shown, name, shape, encode)
    notes: list[str] = []
    environments = [make()]
    try:
        wrappers = running_statistics(environments[0])
        if wrappers:
            plain = make
            make = lambda: _frozen(plain())  # noqa: E731
            environments.append(make())
            still = running_statistics(environments[-1])
            notes += [_statistics_note(name, wrapper, wrapper in still) for wrapper in wrappers]
        actions = _actions(environments[0].action_space)
        trace, used, tried = _trace(name, environments[-1], actions, show)
        # Of a slow environment only as many as fit into the time.
        actions = actions[:tried]
        if used:
            shared = make
            make = lambda: OwnChance(shared())  # noqa: E731
            environments.append(make())
            trace, *_ = _trace(name, environments[-1], actions, show)
            notes.append(
                f"{name} draws from the global generator of {' and '.join(used)}: each environment "
                "is given one of its own, set by reset(seed=…)"
            )
        environments.append(make())
        again, *_ = _trace(name, environments[-1], actions, show)
        # One of them may have had less time.
        if any(one != other for one, other in zip(again, trace, strict=False)):
            notes.append(
                f"{name} draws chance that reset(seed=…) does not set: the same seed gives other "
                "experience at every run"
            )
    finally:
        for environment in environments:
            environment.close()
    return make, tuple(notes)


def running_statistics(environment: gymnasium.Env) -> list[str]:
    """Return the names of the wrappers whose running statistics change as they are used."""
    return [type(layer).__name__ for layer in _wrappers(environment) if _changes(layer)]


def _wrappers(environment: gymnasium.Env) -> list[gymnasium.Wrapper]:
    layers = []
    while isinstance(environment, gymnasium.Wrapper):
        layers.append(environment)
        environment = environment.env
    return layers


def _changes(layer: gymnasium.Wrapper) -> bool:
    # By the class, since a wrapper passes unknown names on to what it wraps.
    if hasattr(type(layer), "update_running_mean"):
        return bool(layer.update_running_mean)  # type: ignore[attr-defined]
    return any("RunningMean" in type(part).__name__ for part in vars(layer).values())


def _frozen(environment: gymnasium.Env) -> gymnasium.Env:
    for layer in _wrappers(environment):
        if hasattr(type(layer), "update_running_mean"):
            layer.update_running_mean = False  # type: ignore[attr-defined]
    return environment


def _statistics_note(name: str, wrapper: str, changes: bool) -> str:
    if changes:
        return (
            f"{name}: the wrapper {wrapper} keeps running statistics that cannot be frozen: the "
            "same state has other observations or rewards later"
        )
    return (
        f"{name}: the running statistics of the wrapper {wrapper} are frozen as they are in a new "
        "environment"
    )


def _actions(space: gymnasium.Space) -> list[Any]:
    # A copy: an environment may draw from its own space.
    space = copy.deepcopy(space)
    space.seed(0)
    return [space.sample() for _ in range(_TRIED)]


def _shown(
    name: str, shape: tuple[int, ...], encode: Callable[[Any], Any], observation: Any
) -> bytes:
    return checked_observation(name, shape, encode(observation)).tobytes()


def _stepped(name: str, answer: Any) -> tuple[Any, float, bool]:
    """Return observation, reward, and whether the episode ended, of what `step` returned."""
    if not isinstance(answer, tuple) or len(answer) != 5:
        size = f" of {len(answer)}" if isinstance(answer, tuple) else ""
        raise ValueError(
            f"{name} returned a {type(answer).__name__}{size} from step; it must return "
            "(observation, reward, terminated, truncated, info), as environments of Gymnasium do"
        )
    observation, reward, terminated, truncated, _ = answer
    try:
        return observation, float(reward), bool(terminated or truncated)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} returned the reward {reward!r:.60}, which is not a number"
        ) from None


def _trace(
    name: str, environment: gymnasium.Env, actions: list[Any], show: Callable[[Any], bytes]
) -> tuple[list[tuple[bytes, float, bool]], list[str], int]:
    """Return what an environment shows after resets with fixed seeds and these actions.

    Further values: the global generators that it drew from, and how many actions it was given
    before the time was over.
    """
    end = time.monotonic() + _SECONDS
    found: list[tuple[bytes, float, bool]] = []
    used: set[str] = set()

    def asked(function: Callable[[], Any]) -> Any:
        # Around the environment alone: what is around it may draw too, as some type checkers do.
        before = global_state()
        answer = function()
        after = global_state()
        used.update(drawn_from(before, after))
        return answer

    def note(observation: Any, reward: float, ended: bool) -> None:
        found.append((show(observation), reward, ended))

    note(asked(partial(environment.reset, seed=0))[0], 0.0, False)
    number = 0
    for number, action in enumerate(actions, start=1):
        observation, reward, ended = _stepped(name, asked(partial(environment.step, action)))
        note(observation, reward, ended)
        if ended:
            note(asked(partial(environment.reset, seed=number))[0], 0.0, False)
        if time.monotonic() > end:
            break
    return found, sorted(used), number
