"""What a run of policy evaluation takes at least, in bytes, told before any of it is taken."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch

from envs.control.environments import observation_encoder
from envs.control.problems import ControlProblem
from envs.control.recording import recording_bytes
from envs.control.truth import truth_bytes
from envs.finite.finite_mdp import FiniteMDP
from envs.finite.streams import GENERATOR_BYTES, stream_bytes
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.settings.evaluation_settings import AUTO
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.computing import torch_dtype
from neural_tdc.baselines.methods import METHODS
from neural_tdc.baselines.search.families import MOST_CANDIDATES
from neural_tdc.device_memory import GIGABYTE, available_bytes
from neural_tdc.learning.sampling import Sampling
from neural_tdc.networks.bodies import BODIES
from neural_tdc.types import MakeBody

# Copies of all initial parameters that exist at the same time.
PARAMETER_COPIES = 2
# Matrices [feature, feature] in double precision that an evaluator holds: A, C and decompositions.
MATRICES = 4


class Need(NamedTuple):
    """What one part of a run takes.

    flags:    the flags that it grows with, as they are given
    what:     in words
    device, host: bytes
    """

    flags: str
    what: str
    device: int
    host: int


def problem_shape(problem: Any, *, given: bool) -> tuple[int, ...]:
    """Return the shape of what is learned from: given features, or observations for a body."""
    if isinstance(problem, FiniteMDP):
        return tuple((problem.features if given else problem.observation).shape[1:])
    if not isinstance(problem, ControlProblem):
        return problem.shape
    environment = problem.make()
    try:
        return observation_encoder(problem.name, environment.observation_space)[0]
    finally:
        environment.close()


def body_size(make_body: MakeBody, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the numbers of a body's parameters and of its features, without making either.

    Zeros for a body that cannot be made without numbers: trying it will tell.
    """
    # A call on torch's device without numbers imports a part of its compiler, which takes a second.
    features = None
    if isinstance(make_body, partial) and make_body.func in BODIES.values():
        features = make_body.keywords.get("features")
    try:
        with torch.device("meta"):
            module = make_body(shape)
            if features is None:
                features = module(torch.empty(2, *shape)).shape[-1]
        return sum(parameter.numel() for parameter in module.parameters()), int(features)
    except Exception:  # A body of the user's own can fail in any way.
        return 0, 0


def needs(
    settings: Any,
    problem: Any,
    make_body: MakeBody | None,
    sampling: Sampling,
    steps: int,
    dtype: torch.dtype,
    heads: int = 1,
) -> list[Need]:
    """Return what the parts of a run take at least.

    settings: of policy evaluation
    heads:    one, or with values of actions one for each action
    """
    shape = problem_shape(problem, given=make_body is None)
    size, runs = math.prod(shape), settings.runs
    parameters, width = (0, size) if make_body is None else body_size(make_body, shape)
    width *= heads
    of_width = "" if settings.width is None else f" --width {settings.width}"
    population = PARAMETER_COPIES * runs * (parameters + width) * dtype.itemsize
    batch = runs * settings.batch * 2 * (size + width) * dtype.itemsize
    found = [
        Need(f"--runs {runs}{of_width}", "the population", population, 0),
        Need(of_width.strip(), "second moments of the features", MATRICES * width**2 * 8, 0),
        Need(f"--runs {runs} --batch {settings.batch}", "the batches of an update", batch, 0),
    ]
    transitions = sampling.transitions(steps)
    of_batch = f" --batch {settings.batch}" if settings.batch > 1 else ""
    of_streams = f"--runs {runs} --steps {steps}{of_batch}"
    # Resampled runs share one stream, and have row numbers of their own.
    streams = runs if settings.resample == "none" else 1
    if streams < runs:
        length = transitions
        if isinstance(problem, LoggedProblem):
            length = problem.transition.reward.shape[1]
        flags = f"--runs {runs} --resample {settings.resample}"
        found.append(Need(flags, "the resampled rows", 8 * runs * length, 0))
    if isinstance(problem, FiniteMDP):
        on_device = streams * stream_bytes(1, transitions, dtype)
        found.append(Need(of_streams, "the streams", on_device, streams * GENERATOR_BYTES))
    elif isinstance(problem, ControlProblem):
        on_host = recording_bytes(streams, transitions, size)
        found.append(Need(of_streams, "the experience", 0, on_host))
        states, rollouts = settings.truth_states, settings.truth_rollouts
        flags = f"--truth-states {states} --truth-rollouts {rollouts}"
        found.append(Need(flags, "the true values", 0, truth_bytes(states, rollouts, size=size)))
        held_out = recording_bytes(1, settings.held_out, size)
        found.append(Need(f"--held-out {settings.held_out}", "held-out transitions", 0, held_out))
    elif isinstance(problem, LoggedProblem):
        found += _needs_of_log(settings, problem, size, dtype)
    return found


def _needs_of_log(
    settings: Any, problem: LoggedProblem, size: int, dtype: torch.dtype
) -> list[Need]:
    """Return what a log that was read takes more; size: of an observation.

    Observations are copied as numbers, except bytes, which stay as they are until they are used.
    """
    time = problem.transition.reward.shape[1]
    numbers = 0 if problem.table is not None else 2 * time * size
    # The search and the methods take all transitions at once, in double precision.
    whole = AUTO in settings.rule or not METHODS.keys().isdisjoint(settings.rule)
    flags = f"{settings.data_flags} --rule {' '.join(settings.rule)}"
    # Off-policy the search compares the values of all candidates at all transitions; it stores
    # those of pictures in float32.
    compared = time * MOST_CANDIDATES if AUTO in settings.rule and problem.ratios else 0
    stored = 8 if problem.table is None else 4
    return [
        Need(settings.data_flags, "its observations as numbers", numbers * dtype.itemsize, 0),
        Need(flags, "all transitions at once", 8 * numbers if whole else 0, 0),
        Need(flags, "the values of all candidates", stored * compared, 0),
    ]


def check_run_memory(
    settings: Any,
    problem: Any,
    make_body: MakeBody | None,
    steps: int,
    device: torch.device,
    heads: int = 1,
) -> None:
    """Raise UsageError, naming flags, where a run of policy evaluation does not fit into memory."""
    dtype = torch_dtype(settings.dtype)
    check_needs(needs(settings, problem, make_body, settings.scheme, steps, dtype, heads), device)


def check_needs(found: list[Need], device: torch.device) -> None:
    """Raise UsageError naming the largest part where all parts do not fit into memory."""
    for place in {str(device), "cpu"}:
        of_place = [
            (need.host if place == "cpu" else 0) + (need.device if place == str(device) else 0)
            for need in found
        ]
        free = available_bytes(place)
        if free is None or sum(of_place) <= free:
            continue
        largest = max(of_place)
        need = found[of_place.index(largest)]
        raise UsageError(
            f"{need.flags}: {need.what} take some {largest / GIGABYTE:,.1f} GB, and {place} has "
            f"{free / GIGABYTE:,.1f} GB available"
        )
