"""Environments in the states of a recorded run, for rollouts that branch off there."""

import copy
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle

from envs.control.environments import observation_encoder, raise_own_limits, without_time_limit
from envs.control.global_chance import OwnChance
from envs.control.problems import ControlProblem
from envs.control.recording import Recording, record

# Makes one more environment in a certain state, without a time limit: with its future chance
# drawn from a seed, or, for None, as it was when the state was recorded.
Branch = Callable[[int | None], gymnasium.Env]


class NoTruthError(ValueError):
    """No true values can be had from an environment; the message says why."""


def branches_of(
    problem: ControlProblem, times: list[int], steps: int, seed: int
) -> tuple[Recording, list[Branch]]:
    """Record a run of the behaviour policy, and find out how to branch off at `times`.

    A copy can silently be another state, so copies count only if all of them make the recorded next
    step. Otherwise
    the episodes are lived through again, from their seeds and actions, under the same condition.
    """
    wanted = set(times)
    saved: list[gymnasium.Env | None] = []

    def save(time: int, environments: list[gymnasium.Env]) -> None:
        if time in wanted and None not in saved:
            try:
                saved.append(_exact_copy(environments[0], {}))
            except Exception:  # whatever an environment's parts raise when they refuse
                saved.append(None)

    recording = record(problem, 1, steps, seed, "truth", visit=save)
    free = _same_without_own_limits(problem, recording)
    copies: list[Branch] = [partial(_copied, each, free) for each in saved if each is not None]
    replays: list[Branch] = [partial(_replayed, problem, recording, time, free) for time in times]
    for branches in (copies, replays):
        if len(branches) == len(times) and all(
            _goes_on(recording, time, branch) for time, branch in zip(times, branches, strict=True)
        ):
            return recording, branches
    raise NoTruthError(
        f"{problem.name} cannot be put back into a state, neither by a deep copy nor by repeating "
        "the actions after a reset with the same seed: its true values cannot be estimated"
    )


def _same_without_own_limits(problem: ControlProblem, recording: Recording) -> bool:
    """Tell whether an environment has limits that can be raised, and that matter for nothing else.

    A reward, for example, may depend on the part of the limit that is left.
    """
    environment = without_time_limit(problem.make())
    try:
        if not raise_own_limits(environment):
            return False
        first, discount = recording.transition.first, recording.transition.discount
        assert first is not None
        for time, action in enumerate(recording.actions[0]):
            if first[0, time]:
                environment.reset(seed=int(recording.reset_seeds[0, time]))
            state, reward, terminated, *_ = environment.step(action)
            same_end = bool(terminated) == (problem.discount > 0 and not discount[0, time])
            if not same_end or not _as_recorded(recording, time, environment, state, reward):
                return False
    finally:
        environment.close()
    return True


def _exact_copy(environment: gymnasium.Env, memo: dict[int, Any]) -> gymnasium.Env:
    """Return a deep copy, also of what Gymnasium's EzPickle would make anew from its arguments.

    MuJoCo's models, large and constant, are shared.
    """
    inner = environment.unwrapped
    if isinstance(inner, EzPickle):
        twin = object.__new__(type(inner))
        memo[id(inner)] = twin
        for part in vars(inner).values():
            if type(part).__name__ == "MjModel":
                memo[id(part)] = part
        vars(twin).update(copy.deepcopy(vars(inner), memo))
    return copy.deepcopy(environment, memo)


def _copied(saved: gymnasium.Env, free: bool, seed: int | None) -> gymnasium.Env:
    # The memo lists every object that was copied: all random generators, however deep.
    memo: dict[int, object] = {}
    environment = _exact_copy(saved, memo)
    if seed is not None:
        for part in memo.values():
            if isinstance(part, np.random.Generator):
                bits = part.bit_generator
                bits.state = type(bits)(seed).state
            elif isinstance(part, np.random.RandomState | random.Random):
                part.seed(seed % 2**32)
            elif isinstance(part, OwnChance):
                part.reseed(seed)
            else:
                continue
            seed += 1
    if free:
        raise_own_limits(environment)
    return without_time_limit(environment)


def _replayed(
    problem: ControlProblem, recording: Recording, time: int, free: bool, seed: int | None
) -> gymnasium.Env:
    starts = recording.transition.first
    assert starts is not None
    start = int(starts[0, : time + 1].nonzero()[-1])
    environment = without_time_limit(problem.make())
    if free:
        raise_own_limits(environment)
    environment.reset(seed=int(recording.reset_seeds[0, time]))
    for action in recording.actions[0, start:time]:
        environment.step(action)
    if seed is not None:
        environment.unwrapped.np_random = np.random.default_rng(seed)
        if isinstance(environment, OwnChance):
            environment.reseed(seed + 1)
    return environment


def _goes_on(recording: Recording, time: int, branch: Branch) -> bool:
    try:
        environment = branch(None)
        state, reward, *_ = environment.step(recording.actions[0, time])
    except Exception:  # a copy that is no environment any more fails in its own way
        return False
    environment.close()
    return _as_recorded(recording, time, environment, state, reward)


def _as_recorded(
    recording: Recording, time: int, environment: gymnasium.Env, state: Any, reward: Any
) -> bool:
    """Tell whether a step showed what the recorded one showed."""
    _, encode = observation_encoder("", environment.observation_space)
    expected = recording.transition.next_observation[0, time].numpy()
    reached = np.asarray(encode(state), dtype=np.float32).reshape(expected.shape)
    same_reward = np.float32(reward) == np.float32(recording.transition.reward[0, time])
    return bool(same_reward) and np.array_equal(reached, expected)
