"""Experience of prediction problems on Gymnasium environments.

A fixed policy's experience does not depend on any learner: it is collected once, here, and handed
on as tensors. The problems themselves stand in `envs.control.problems`, their true values come from
`envs.control.truth`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.control.environments import discrete_actions, observation_encoder
from envs.control.policies import drawn, policy_name, probabilities
from envs.control.problems import ControlProblem
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
    actions:      [stream, time] as given to the environment
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

    def uniforms(self) -> np.ndarray:
        return torch.rand(_BLOCK, generator=self._actions, dtype=torch.float64).numpy()


def _ratios(
    problem: ControlProblem, observation: np.ndarray, choice: np.ndarray, actions: int
) -> np.ndarray:
    """Return π(a|s) / b(a|s) of the chosen actions [n], and check that b covers π."""
    target = probabilities(problem.target, observation, actions)
    behaviour = probabilities(problem.behaviour, observation, actions)
    missing = (behaviour == 0) & (target > 0)
    if missing.any():
        row, action = np.argwhere(missing)[0]
        raise ValueError(
            f"the behaviour policy {policy_name(problem.behaviour)} never takes action {action} "
            f"at the observation {observation[row].tolist()}, where the target policy "
            f"{policy_name(problem.target)} takes it with probability {target[row, action]:.3g}"
        )
    rows = np.arange(len(choice))
    return target[rows, choice] / behaviour[rows, choice]


@torch.no_grad()
def record(
    problem: ControlProblem,
    streams: int,
    steps: int,
    seed: int,
    purpose: str,
    visit: Callable[[int, list[gymnasium.Env]], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Recording:
    """Let the behaviour policy act in `streams` environments for `steps` steps each.

    `visit(time, environments)` sees the environments before each step, for copying; `progress`
    hears how many steps are done, once a step. Everything else as in `collect`.
    """
    if streams < 1 or steps < 1:
        raise ValueError(f"streams {streams} and steps {steps}: both must be at least 1")
    environments: list[gymnasium.Env] = [problem.make()]
    try:
        shape, _ = observation_encoder(problem.name, environments[0].observation_space)
        what = f"experience of {streams:,} × {steps:,} transitions of {problem.name}"
        check_memory(what, 0, "cpu", on_host=recording_bytes(streams, steps, math.prod(shape)))
        for _ in range(streams - 1):
            environments.append(problem.make())
        if len(set(map(id, environments))) < streams:
            raise ValueError(f"{problem.name} must make a new environment at every call")
        return _recorded(problem, environments, steps, seed, purpose, visit, progress)
    finally:
        for environment in environments:
            environment.close()


def _recorded(
    problem: ControlProblem,
    environments: list[gymnasium.Env],
    steps: int,
    seed: int,
    purpose: str,
    visit: Callable[[int, list[gymnasium.Env]], None] | None,
    progress: Callable[[int], None] | None,
) -> Recording:
    actions, lowest = discrete_actions(problem.name, environments[0].action_space)
    shape, encode = observation_encoder(problem.name, environments[0].observation_space)
    streams = [
        _Stream(environment, seed, purpose, index) for index, environment in enumerate(environments)
    ]
    size = (len(streams), steps)
    observation = np.empty((*size, *shape), dtype=np.float32)
    next_observation = np.empty_like(observation)
    reward = np.empty(size, dtype=np.float32)
    discount = np.full(size, problem.discount, dtype=np.float32)
    ratio = np.ones(size, dtype=np.float32)
    first = np.zeros(size, dtype=np.float32)
    choice = np.empty(size, dtype=np.int64)
    reset_seeds = np.empty(size, dtype=np.int64)

    current = np.empty((len(streams), *shape), dtype=np.float32)
    for index, stream in enumerate(streams):
        current[index] = encode(stream.restart())
    first[:, 0] = 1
    for time in range(steps):
        if time % _BLOCK == 0:
            uniforms = np.stack([stream.uniforms() for stream in streams])
        if visit is not None:
            visit(time, environments)
        probability = probabilities(problem.behaviour, current, actions)
        choice[:, time] = drawn(probability, uniforms[:, time % _BLOCK])
        observation[:, time] = current
        for index, (stream, action) in enumerate(zip(streams, choice[:, time], strict=True)):
            reset_seeds[index, time] = stream.reset_seed
            state, gain, terminated, truncated, _ = stream.environment.step(action + lowest)
            current[index] = encode(state)
            reward[index, time] = gain
            if terminated:
                discount[index, time] = 0
            next_observation[index, time] = current[index]
            if terminated or truncated:
                current[index] = encode(stream.restart())
                if time + 1 < steps:
                    first[index, time + 1] = 1
        done = time + 1
        if problem.target is not problem.behaviour and (done % _BLOCK == 0 or done == steps):
            block = slice((time // _BLOCK) * _BLOCK, done)
            rows = observation[:, block].reshape(-1, *shape)
            ratios = _ratios(problem, rows, choice[:, block].reshape(-1), actions)
            ratio[:, block] = ratios.reshape(len(streams), -1)
        if progress is not None:
            progress(done)
    if not all(np.isfinite(array).all() for array in (observation, next_observation, reward)):
        raise ValueError(f"{problem.name} returned an observation or a reward that is not finite")
    leaves = (observation, reward, discount, next_observation, ratio, first)
    return Recording(Transition(*map(torch.from_numpy, leaves)), choice + lowest, reset_seeds)


def collect(
    problem: ControlProblem,
    streams: int,
    steps: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Transition:
    """Collect streams of the behaviour policy's experience: leaves [stream, time, …], float32, CPU.

    Entry t + 1 of a stream continues entry t; after a termination or a truncation it starts a
    new episode, with `first` 1, as at t = 0. The next observation is always the true one, an
    episode's last included; the discount is 0 at a termination and γ at a truncation; rewards are
    the environment's own. Stream i depends on (seed, i) only and a longer stream begins as a
    shorter one, provided that the policies judge every row by itself. `progress` hears how many
    of the `steps` are done.

    ValueError: a policy returns something that is no distribution, or the target takes an action
    that the behaviour never takes; non-finite experience; more than the machine's memory.
    """
    return record(problem, streams, steps, seed, "stream", progress=progress).transition


def held_out(
    problem: ControlProblem,
    transitions: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Transition:
    """Collect one more, independent stream for estimating expectations: leaves [batch, …].

    No stream of `collect` has any of it, whatever the seed's number of streams.
    """
    recording = record(problem, 1, transitions, seed, "held out", progress=progress)
    return Transition(*(leaf[0] for leaf in recording.transition if leaf is not None))


def standardisation(
    observation: Float[Tensor, "batch *shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return mean and scale of each component: (observation − mean) / scale has mean 0, variance 1.

    The scale is 1 where a component is constant. Computed in float64, returned in the dtype of
    `observation`.
    """
    exact = observation.double()
    mean, deviation = exact.mean(0), exact.std(0, unbiased=False)
    constant = (observation == observation[:1]).all(0)
    scale = torch.where(constant, torch.ones_like(deviation), deviation)
    return mean.to(observation.dtype), scale.to(observation.dtype)
