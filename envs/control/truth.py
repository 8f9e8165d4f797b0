"""The true value of a policy in a Gymnasium environment, by Monte Carlo."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.control.actions import Actions, actions_of
from envs.control.branches import NoTruthError, branches_of
from envs.control.environments import observation_encoder
from envs.control.problems import ControlProblem
from envs.control.recording import recording_bytes
from envs.control.workers import equal_parts, in_parallel, worker_count
from neural_tdc.device_memory import check_memory
from neural_tdc.randomness import generator

# A state that rollouts branch off from takes at least so much: a copy of the environment.
BRANCH_BYTES = 2_000
# Uniform numbers of the rollouts are drawn for so many steps at once.
_BLOCK = 64
# Steps of the behaviour policy per state at which the truth is estimated.
SPACING = 50


def truth_bytes(states: int, rollouts: int, spacing: int = SPACING, size: int = 1) -> int:
    """Return what a truth takes at least on the host; size: numbers of an observation."""
    return states * (BRANCH_BYTES + 8 * rollouts) + recording_bytes(1, states * spacing, size)


def check_truth_memory(name: str, states: int, rollouts: int, spacing: int = SPACING) -> None:
    """Raise ValueError in one line where a truth does not fit into memory."""
    what = f"a truth at {states:,} states of {name}"
    check_memory(what, 0, "cpu", on_host=truth_bytes(states, rollouts, spacing))


class MonteCarloTruth(NamedTuple):
    """Values of the target policy at states that the behaviour policy visits.

    observation:     [state, …] raw
    value:           [state] mean discounted return over the rollouts, without time limit
    standard_error:  [state] of that mean; 0 where all rollouts agree
    """

    observation: Tensor
    value: Tensor
    standard_error: Tensor


def horizon(discount: float, tolerance: float) -> int | None:
    """Return the smallest number of steps t with γ^t < `tolerance`; None for γ = 1."""
    if discount == 1:
        return None
    if discount == 0:
        return 1
    steps = max(1, math.floor(math.log(tolerance) / math.log(discount)))
    while discount**steps >= tolerance:
        steps += 1
    return steps


@torch.no_grad()
def monte_carlo_truth(
    problem: ControlProblem,
    states: int,
    rollouts: int,
    seed: int,
    tolerance: float = 1e-4,
    spacing: int = SPACING,
    max_episode_steps: int = 10_000,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> MonteCarloTruth:
    """Estimate the target policy's value at states of a separate run of the behaviour policy.

    The run has `states` · `spacing` steps, restarts and time limits like any stream, and one
    state is drawn from each `spacing` of them: states as the weighting d has them, hardly
    dependent, and out of step with episodes of one length. At each, `rollouts` copies of the
    environment follow the target policy without a time limit, with their own chance (every random
    generator found inside is reseeded), until they terminate or γ^t < `tolerance`: what is cut
    off is at most `tolerance` times the largest value. A limit of the environment's own is raised
    where the recorded run is the same without it. Leaves [state, …], float32, CPU.
    `progress` is called with the number of states done. `workers` processes share the rollouts,
    by default one per thread of torch; their number changes nothing.

    NoTruthError: an environment that can be neither copied nor repeated, or that truncates by
    itself. ValueError: fewer than 2 rollouts (one has no standard error), a rollout that neither
    terminates nor reaches the tolerance within `max_episode_steps`.
    """
    if states < 1 or spacing < 1:
        raise ValueError(f"states {states} and spacing {spacing}: both must be at least 1")
    if rollouts < 2:
        raise ValueError(f"rollouts {rollouts}: at least 2, since one has no standard error")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance {tolerance}: it must lie between 0 and 1")
    check_truth_memory(problem.name, states, rollouts, spacing)
    offsets = torch.randint(spacing, (states,), generator=generator(seed, "truth", "states"))
    times = [block * spacing + int(offset) for block, offset in enumerate(offsets)]
    recording, branches = branches_of(problem, times, states * spacing, seed)
    chance = generator(seed, "truth", "chance")
    draws = generator(seed, "truth", "action")
    observation = recording.transition.observation[0, times]
    environment = problem.make()
    actions = actions_of(problem.name, environment.action_space)
    environment.close()
    # What a policy that samples by itself draws depends on which rollouts it is asked for at once.
    alone = actions.samples_itself(problem.target, observation[:1].numpy())
    count = worker_count(spacing * states, 1 if alone else workers)
    returns = np.empty((states, rollouts))
    # Some hundred environments at a time are asked together: more would leave the cache.
    together = max(1, 256 // rollouts)
    for begin in range(0, states, together):
        chosen = branches[begin : begin + together]
        copies: list[Callable[[], gymnasium.Env]] = [
            partial(branch, int(torch.randint(2**62, (), generator=chance)))
            for branch in chosen
            for _ in range(rollouts)
        ]
        start = observation[begin : begin + together].numpy().repeat(rollouts, axis=0)
        parts = [
            partial(
                _returns, problem, actions, copies, part, start, draws, tolerance, max_episode_steps
            )
            for part in equal_parts(len(copies), count)
        ]
        totals, steps = zip(*in_parallel(parts), strict=True)
        returns[begin : begin + together] = np.concatenate(totals).reshape(-1, rollouts)
        # What follows draws on from where the longest rollout has stopped.
        torch.rand(max(steps), len(copies), *actions.numbers, generator=draws, dtype=torch.float64)
        if progress is not None:
            progress(begin + len(chosen))
    # Measured from the first rollout, equal returns have exactly no variance.
    shifted = returns - returns[:, :1]
    value = returns[:, 0] + shifted.mean(1)
    error = shifted.std(1, ddof=1) / math.sqrt(rollouts)
    values, errors = (torch.from_numpy(each).float() for each in (value, error))
    return MonteCarloTruth(observation, values, errors)


def _returns(
    problem: ControlProblem,
    actions: Actions,
    copies: list[Callable[[], gymnasium.Env]],
    part: slice,
    observation: np.ndarray,
    draws: torch.Generator,
    tolerance: float,
    max_episode_steps: int,
) -> tuple[np.ndarray, int]:
    """Follow the target policy in one part of the environments, side by side.

    copies: make the environments; observation: where they start; both of all parts
    draws:  is left as it is; every step takes a number for each environment of all parts

    Returns the discounted returns of the part and the number of steps until all had ended.
    """
    environments = [make() for make in copies[part]]
    try:
        uniforms = _uniforms(draws.clone_state(), (len(copies), *actions.numbers), part)
        start = observation[part].copy()
        return _followed(
            problem, environments, actions, start, uniforms, tolerance, max_episode_steps
        )
    finally:
        for environment in environments:
            environment.close()


def _uniforms(draws: torch.Generator, size: tuple[int, ...], part: slice) -> Iterator[np.ndarray]:
    """Yield uniform numbers [environment of the part, time, …], block after block of steps.

    size: of the numbers of one step of all parts
    """
    while True:
        block = torch.rand(_BLOCK, *size, generator=draws, dtype=torch.float64)
        yield block[:, part].transpose(0, 1).numpy()


def _followed(
    problem: ControlProblem,
    environments: list[gymnasium.Env],
    actions: Actions,
    observation: np.ndarray,
    uniforms: Iterator[np.ndarray],
    tolerance: float,
    max_episode_steps: int,
) -> tuple[np.ndarray, int]:
    _, encode = observation_encoder(problem.name, environments[0].observation_space)
    end = horizon(problem.discount, tolerance)
    acting = [environment.step for environment in environments]
    returns = np.zeros(len(environments))
    running = np.arange(len(environments))
    weight = 1.0
    steps = 0
    while len(running) and steps != end:
        if steps == max_episode_steps:
            raise ValueError(
                f"{len(running)} of {len(environments)} rollouts of {problem.name} did not "
                f"terminate within {max_episode_steps} steps: lower the discount "
                f"{problem.discount}, raise the tolerance {tolerance}, or allow longer rollouts"
            )
        if steps % _BLOCK == 0:
            decide = actions.decisions(problem.target, next(uniforms), together=True)
        choice = actions.executed(decide(steps % _BLOCK, running, observation[running]))
        going = []
        for index, action in zip(running.tolist(), choice, strict=True):
            state, reward, terminated, truncated, _ = acting[index](action)
            returns[index] += weight * float(reward)
            if terminated:
                continue
            if truncated:
                raise NoTruthError(
                    f"{problem.name} cuts its episodes by a limit of its own, which cannot be "
                    "removed as Gymnasium's TimeLimit can: its true values cannot be estimated"
                )
            observation[index] = encode(state)
            going.append(index)
        running = np.array(going, dtype=np.int64)
        weight *= problem.discount
        steps += 1
    return returns, steps
