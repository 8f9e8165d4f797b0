"""Experience of prediction problems on Gymnasium environments.

A fixed policy's experience does not depend on any learner: it is collected once, here, and handed
on as tensors. The problems themselves are in `envs.control.problems`, their true values come from
`envs.control.truth`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from envs.control.problems import ControlProblem
from envs.control.recording import record
from neural_tdc.types import Transition


def collect(
    problem: ControlProblem,
    streams: int,
    steps: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> Transition:
    """Collect streams of the behaviour policy's experience: leaves [stream, time, …], float32, CPU.

    Entry t + 1 of a stream continues entry t; after a termination or a truncation it starts a
    new episode, with `first` 1, as at t = 0. The next observation is always the true one, an
    episode's last included; the discount is 0 at a termination and γ at a truncation; rewards are
    the environment's own. Stream i depends on (seed, i) only and a longer stream begins as a
    shorter one, provided that the policies treat every row by itself. Continuous actions
    reach the environment within its bounds; ratios are those of the actions as they were drawn.
    `progress` is called with the number of `steps` done. `workers` processes share the streams,
    by default one per thread of torch for a long collection; their number changes nothing.

    ValueError: a policy returns something that is no distribution, or the target takes an action
    that the behaviour never takes; non-finite experience; more than the machine's memory.
    """
    return collected(problem, streams, steps, seed, progress, workers)[0]


def collected(
    problem: ControlProblem,
    streams: int,
    steps: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[Transition, Shaped[Tensor, "stream time *action"]]:
    """Collect the streams of `collect` with the actions taken, as the environment counts them.

    meanwhile: called once, while other processes collect; not where this one does it alone
    """
    recording = record(
        problem,
        streams,
        steps,
        seed,
        "stream",
        progress=progress,
        workers=workers,
        meanwhile=meanwhile,
    )
    return recording.transition, torch.from_numpy(recording.actions)


def held_out(
    problem: ControlProblem,
    transitions: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Transition:
    """Collect one more, independent stream for estimating expectations: leaves [batch, …].

    No stream of `collect` has any of it, for any number of streams.
    """
    return held_out_recording(problem, transitions, seed, progress)[0]


def held_out_recording(
    problem: ControlProblem,
    transitions: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Transition, Shaped[Tensor, "batch *action"]]:
    """Collect the stream of `held_out` with the actions taken, as the environment counts them."""
    recording = record(problem, 1, transitions, seed, "held out", progress=progress)
    alone = Transition(*(leaf[0] for leaf in recording.transition if leaf is not None))
    return alone, torch.from_numpy(recording.actions[0])
