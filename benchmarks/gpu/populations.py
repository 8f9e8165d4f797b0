"""Run-steps a second of Algorithm 1 for populations, however their updates are started."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.gpu.record import Record
from benchmarks.gpu.timing import Setting, best_seconds, driver_calls
from benchmarks.learner import OPERATIONS, population_sizes, random_population
from neural_tdc.compiled.cuda_graphs import UNROLLED
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import repeated_updates
from neural_tdc.learning.sampling import IidSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.randomness import keys
from neural_tdc.types import StepSizes

# Runs, optimiser and batch.
CASES = (
    (1, "sgd", 1),
    (64, "sgd", 1),
    (1024, "sgd", 1),
    (8192, "sgd", 1),
    (65_536, "sgd", 1),
    (1024, "rmsprop", 1),
    (1024, "adam", 1),
    (1024, "sgd", 32),
    (8192, "sgd", 32),
)
SMALL_CASES = ((6, "sgd", 1),)
# Whether a mode is compiled, and whether it is started by graphs.
MODES = {
    "eager": (False, False),
    "eager graph": (False, True),
    "compiled": (True, False),
    "compiled graph": (True, True),
}
# Runs and streams that are made; a larger population repeats them.
MADE = 256
LENGTH = 500


class Population(NamedTuple):
    """What a population learns with."""

    algorithm: Algorithm
    state: State
    experience: Experience
    sizes: StepSizes
    sampling: IidSampling


def population(runs: int, optimizer: str, batch: int, device: torch.device) -> Population:
    """Return a population of `tdc` with a body 8-32-16 in float32."""
    made = min(runs, MADE)
    stream, algorithm, state = random_population(made, LENGTH, optimizer, device)
    times = -(-runs // made)
    state = tree_map(lambda x: x.repeat(times, *([1] * (x.dim() - 1)))[:runs], state)
    index = torch.arange(runs, device=device) % made
    experience = Experience(stream, None, index, keys(0, made, "sampling").to(device)[index])
    sizes = population_sizes(runs, device)
    return Population(algorithm, state, experience, sizes, IidSampling(batch))


def advance_of(made: Population, mode: str) -> Callable[[State, Tensor, int], tuple[State, Tensor]]:
    """Return what takes updates of a population in a mode of MODES."""
    compiled, graphs = MODES[mode]
    return repeated_updates(
        made.algorithm,
        schedule("constant"),
        made.sampling,
        made.experience,
        made.sizes,
        made.state,
        compiled=compiled,
        graphs=graphs,
    )


def modes(setting: Setting) -> list[str]:
    """Return the modes that are measured: graphs need a GPU, and a test compiles nothing."""
    return [
        mode
        for mode, (compiled, graphs) in MODES.items()
        if (setting.on_gpu or not graphs) and not (setting.small and compiled)
    ]


def measure_populations(record: Record, setting: Setting, rates: dict[str, float]) -> None:
    """Add a row for every population and mode."""
    for runs, optimizer, batch in SMALL_CASES if setting.small else CASES:
        case = {"runs": runs, "optimizer": optimizer, "batch": batch}
        make = partial(population, runs, optimizer, batch, setting.device)
        made = record.guarded("populations", 20, make, **case)
        for mode in modes(setting) if made else ():
            measure = partial(_measured, record, setting, rates, made, mode, case)
            record.guarded("populations", 20, measure, **case, mode=mode)


def _measured(
    record: Record,
    setting: Setting,
    rates: dict[str, float],
    made: Population,
    mode: str,
    case: dict[str, Any],
) -> None:
    begun = time.perf_counter()
    zero = torch.zeros((), dtype=torch.int64, device=setting.device)
    calls = 2 if setting.small else 10 * UNROLLED if mode != "eager" else UNROLLED
    with torch.no_grad():
        advance = advance_of(made, mode)
        one = best_seconds(lambda: advance(made.state, zero, calls), setting) / calls
        ready = time.perf_counter() - begun
        asked = driver_calls(lambda: advance(made.state, zero, UNROLLED), setting)
    state_bytes = sum(leaf.nbytes for leaf in tree_leaves(made.state))
    operations = case["runs"] * case["batch"] * OPERATIONS
    record.row(
        "populations",
        **case,
        mode=mode,
        microseconds_a_step=1e6 * one,
        run_steps_per_second=case["runs"] / one,
        share_of_copy_rate=2 * state_bytes / one / rates["copy"] if rates else None,
        share_of_matrix_rate=operations / one / rates["float32"] if rates else None,
        seconds=ready,
        # Of the ten updates that were watched.
        **{f"{kind}_per_update": count / UNROLLED for kind, count in asked.items()},
    )


def learned_digest(mode: str, setting: Setting) -> str:
    """Return a digest of the parameters of a population after some updates."""
    made = population(6 if setting.small else 1024, "rmsprop", 4, setting.device)
    zero = torch.zeros((), dtype=torch.int64, device=setting.device)
    with torch.no_grad():
        state, _ = advance_of(made, mode)(made.state, zero, 5 if setting.small else 205)
    numbers = [leaf.reshape(-1).double().cpu() for leaf in tree_leaves(state.parameters)]
    return hashlib.sha256(torch.cat(numbers).numpy().tobytes()).hexdigest()[:16]
