"""Recordings: streams of transitions, with the actions and the reset seeds that reproduce them.

Several environments are stepped side by side, in one process or in several. What the learner needs
of a recording is in `envs.control.collection`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

from envs.control.actions import Actions, BoxActions, actions_of
from envs.control.environments import observation_encoder
from envs.control.importance import importance_ratios
from envs.control.problems import ControlProblem
from envs.control.workers import (
    equal_parts,
    in_parallel,
    progress_from_elsewhere,
    shared_array,
    worker_count,
)
from neural_tdc.device_memory import check_memory
from neural_tdc.randomness import generator
from neural_tdc.types import Transition

# Uniform numbers are drawn in blocks of one size, so that a longer stream begins as a shorter one;
# ratios are computed once a block, which asks the target policy seldom.
_BLOCK = 256
# The two random generators of a stream take so much, and its environment some more.
STREAM_BYTES = 5_000


class Recording(NamedTuple):
    """Streams of experience with what it takes to live through them again.

    transition:   leaves [stream, time, …]
    actions:      [stream, time, *action] as given to the environment
    reset_seeds:  [stream, time] the seed with which the running episode was reset
    """

    transition: Transition
    actions: np.ndarray
    reset_seeds: np.ndarray


def recording_bytes(streams: int, steps: int, size: int) -> int:
    """Return what streams of experience take at least; size: numbers of an observation."""
    return streams * (4 * steps * (2 * size + 8) + STREAM_BYTES)


class _Stream:
    """One environment that starts again by itself, and all the chance that it draws."""

    def __init__(self, environment: gymnasium.Env, seed: int, purpose: str, index: int) -> None:
        self.environment = environment
        self._resets = generator(seed, purpose, "reset", index)
        self._actions = generator(seed, purpose, "action", index)
        self.reset_seed = 0

    def restart(self) -> Any:
        # A seed at every reset, not only the first: an episode is then its seed and its actions.
        self.reset_seed = int(torch.randint(2**31, (), generator=self._resets))
        return self.environment.reset(seed=self.reset_seed)[0]

    def uniforms(self, actions: Actions) -> np.ndarray:
        size = (_BLOCK, *actions.numbers)
        return torch.rand(size, generator=self._actions, dtype=torch.float64).numpy()


@torch.no_grad()
def record(
    problem: ControlProblem,
    streams: int,
    steps: int,
    seed: int,
    purpose: str,
    visit: Callable[[int, list[gymnasium.Env]], None] | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Recording:
    """Let the behaviour policy act in `streams` environments for `steps` steps each.

    `visit(time, environments)` sees the environments before each step, for copying, all of them
    in this process; `progress` is called with the number of steps done, once per step. Everything
    else is as in `collect`. Raises ValueError for numbers below 1, and for an observation or a
    reward that is not finite.
    """
    if streams < 1 or steps < 1:
        raise ValueError(f"streams {streams} and steps {steps}: both must be at least 1")
    # Two streams in a process at least: a factory that makes one environment for all is found.
    most = worker_count(streams * steps, workers)
    count = min(most, max(1, streams // 2))
    recording = _empty_recording(problem, streams, steps)
    slices = equal_parts(streams, count if visit is None else 1)
    on_collected, watch = progress, None
    if meanwhile is not None and most > 1:
        on_collected, watch = progress_from_elsewhere(progress, meanwhile)
    in_parallel(
        [
            partial(
                _fill,
                problem,
                recording,
                part,
                seed,
                purpose,
                visit,
                None if part.start else on_collected,
            )
            for part in slices
        ],
        watch,
    )
    transition = recording.transition
    finite = (transition.observation, transition.next_observation, transition.reward)
    if not all(bool(leaf.isfinite().all()) for leaf in finite):
        raise ValueError(f"{problem.name} returned an observation or a reward that is not finite")
    return recording


def _empty_recording(problem: ControlProblem, streams: int, steps: int) -> Recording:
    """Return a recording to be filled, of memory that is shared with processes forked later."""
    environment = problem.make()
    try:
        shape, _ = observation_encoder(problem.name, environment.observation_space)
        actions = actions_of(problem.name, environment.action_space)
    finally:
        environment.close()
    what = f"experience of {streams:,} × {steps:,} transitions of {problem.name}"
    check_memory(what, 0, "cpu", on_host=recording_bytes(streams, steps, math.prod(shape)))
    shapes = {"observation": shape, "next_observation": shape}
    leaves = {
        name: torch.from_numpy(shared_array((streams, steps, *shapes.get(name, ())), np.float32))
        for name in Transition._fields
    }
    taken = shared_array((streams, steps, *actions.shape), actions.dtype)
    return Recording(Transition(**leaves), taken, shared_array((streams, steps), np.int64))


def _fill(
    problem: ControlProblem,
    recording: Recording,
    part: slice,
    seed: int,
    purpose: str,
    visit: Callable[[int, list[gymnasium.Env]], None] | None,
    progress: Callable[[int], None] | None,
) -> None:
    """Fill the streams of one part of a recording."""
    indices = range(part.start, part.stop)
    environments: list[gymnasium.Env] = []
    try:
        for _ in indices:
            environments.append(problem.make())
        if len(set(map(id, environments))) < len(indices):
            raise ValueError(f"{problem.name} must make a new environment at every call")
        streams = [
            _Stream(environment, seed, purpose, index)
            for environment, index in zip(environments, indices, strict=True)
        ]
        leaves: Any = (leaf[part].numpy() for leaf in recording.transition if leaf is not None)
        arrays = Recording(
            Transition(*leaves),
            recording.actions[part],
            recording.reset_seeds[part],
        )
        _live(problem, streams, arrays, visit, progress)
    finally:
        for environment in environments:
            environment.close()


def _live(
    problem: ControlProblem,
    streams: list[_Stream],
    arrays: Any,
    visit: Callable[[int, list[gymnasium.Env]], None] | None,
    progress: Callable[[int], None] | None,
) -> None:
    """Step streams side by side and write all that happens into a recording of arrays."""
    environments = [stream.environment for stream in streams]
    actions = actions_of(problem.name, environments[0].action_space)
    shape, encode = observation_encoder(problem.name, environments[0].observation_space)
    (observation, reward, discount, next_observation, ratio, first), taken, reset_seeds = arrays
    steps = reward.shape[1]
    discount[:], ratio[:], first[:, 0] = problem.discount, 1, 1
    # From array to array: a loop over names would cost as much as a step of some environments.
    current = np.empty((len(streams), *shape), dtype=np.float32)
    for index, stream in enumerate(streams):
        current[index] = encode(stream.restart())
    # As drawn, before bounds: of the latest block, for ratios.
    number = np.float64 if isinstance(actions, BoxActions) else np.int64
    drawn = np.empty((len(streams), _BLOCK, *actions.shape), number)
    everybody = np.arange(len(streams))
    seeds = np.array([stream.reset_seed for stream in streams])
    acting = [environment.step for environment in environments]
    for time in range(steps):
        if time % _BLOCK == 0:
            uniforms = np.stack([stream.uniforms(actions) for stream in streams])
            decide = actions.decisions(problem.behaviour, uniforms, together=False)
        if visit is not None:
            visit(time, environments)
        chosen = decide(time % _BLOCK, everybody, current)
        drawn[:, time % _BLOCK] = chosen
        executed = actions.executed(chosen)
        taken[:, time] = executed
        observation[:, time] = current
        reset_seeds[:, time] = seeds
        ended = []
        for index, (step, action) in enumerate(zip(acting, executed, strict=True)):
            state, gain, terminated, truncated, _ = step(action)
            current[index] = encode(state)
            reward[index, time] = gain
            if terminated:
                discount[index, time] = 0
            if terminated or truncated:
                ended.append(index)
        next_observation[:, time] = current
        for index in ended:
            current[index] = encode(streams[index].restart())
            seeds[index] = streams[index].reset_seed
            if time + 1 < steps:
                first[index, time + 1] = 1
        done = time + 1
        if problem.target is not problem.behaviour and (done % _BLOCK == 0 or done == steps):
            block = slice((time // _BLOCK) * _BLOCK, done)
            rows = observation[:, block].reshape(-1, *shape)
            chosen = drawn[:, : done - block.start].reshape(-1, *actions.shape)
            policies = (problem.target, problem.behaviour)
            ratios = importance_ratios(actions, *policies, rows, chosen, problem.ratio_limit)
            ratio[:, block] = ratios.reshape(len(streams), -1)
        if progress is not None:
            progress(done)
