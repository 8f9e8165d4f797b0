"""The training loop on tensors: a population of runs, chunk after chunk, without an environment.

Nothing inside an update waits for the device. Between chunks the loop looks once at the
parameters, marks the runs that have diverged, and hands out a measurement.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.action_values.rows import ratio_on_arrival
from neural_tdc.compiled.blocks import block_updates
from neural_tdc.compiled.device_updates import device_updates
from neural_tdc.learning.algorithm import Algorithm, State, population, step
from neural_tdc.learning.averaging import averaged
from neural_tdc.learning.experience import Experience, gather, joined_segments
from neural_tdc.learning.reward_scale import in_reward_units, with_scaled_rewards
from neural_tdc.learning.row_numbers import check_row_numbers
from neural_tdc.learning.sampling import Sampling
from neural_tdc.learning.schedules import Schedule
from neural_tdc.types import Evaluator, Measurement, Parameters, StepSizes

# A parameter of this many times its initial maximum (at least 1), or more, counts as diverged;
# docs/statistics.md says what is between here and infinity.
DIVERGENCE = 1e5

Updates = Callable[[State, Experience, Tensor, StepSizes], tuple[State, Tensor]]


def no_phase(phase: str) -> None:
    """Hear what begins and do nothing."""


def updates(algorithm: Algorithm, schedule: Schedule, sampling: Sampling) -> Updates:
    """Return the function that takes one update of a whole population.

    The function takes (state, experience, number of the first update, base step sizes [run]) and
    returns the new state and the number of the next update; all of it stays on the device.
    """
    many = population(partial(step, algorithm))

    def advance(
        state: State, experience: Experience, update: Tensor, base: StepSizes
    ) -> tuple[State, Tensor]:
        length = experience.transitions.reward.shape[1]
        times = sampling.times(experience.key, update, length)
        batch = joined_segments(gather(experience, times, update))
        if experience.of_actions:
            batch = ratio_on_arrival(batch)
        factors = schedule(update)
        sizes = StepSizes(*((size * factor).to(size.dtype) for size, factor in zip(base, factors)))
        return many(state, batch, sizes), update + 1

    return advance


def repeated_updates(
    algorithm: Algorithm,
    schedule: Schedule,
    sampling: Sampling,
    experience: Experience,
    base: StepSizes,
    state: State,
    *,
    compiled: bool,
    graphs: bool = True,
    threads: int | None = None,
) -> Callable[[State, Tensor, int], tuple[State, Tensor]]:
    """Return the function that takes a number of updates, compiled or not.

    state:  of the shapes that the program is for
    graphs: start updates by CUDA graphs where there is such a device
    threads: see `neural_tdc.compiled.blocks.block_updates`

    The function takes (state, number of the first update, how many) and returns the new state and
    the number of the next update.
    """
    single = updates(algorithm, schedule, sampling)
    device = experience.stream_index.device
    zero = torch.zeros((), dtype=torch.int64, device=device)

    def function(carried: Any, constant: Any) -> tuple[State, Tensor]:
        (state, update), (experience, base) = carried, constant
        return single(state, experience, update, base)

    if device.type != "cpu" or not compiled:
        # As one block: blocks are for the cache of the CPU.
        repeat = device_updates(
            function, (state, zero), (experience, base), compiled=compiled, graphs=graphs
        )
        return lambda state, update, times: repeat((state, update), times)
    return block_updates(function, state, experience, base, threads)


def magnitude(parameters: Parameters) -> Float[Tensor, " run"]:
    """Return the largest absolute parameter of every run; NaN or infinite where one is."""
    leaves = [leaf for leaf in tree_leaves(parameters) if leaf.numel()]
    return torch.stack([leaf.abs().reshape(len(leaf), -1).amax(1) for leaf in leaves]).amax(0)


def diverged_runs(parameters: Parameters, limit: Float[Tensor, " run"]) -> Bool[Tensor, " run"]:
    """Tell which runs hold a parameter that is not finite or not below the run's limit."""
    return ~(magnitude(parameters) < limit)


def divergence_limit(parameters: Parameters) -> Float[Tensor, " run"]:
    """Return the magnitude from which on each run counts as diverged, from its initial values."""
    return DIVERGENCE * magnitude(parameters).clamp(min=1)


def without(parameters: Parameters, diverged: Bool[Tensor, " run"]) -> Parameters:
    """Return the parameters with zeros for the diverged runs, which no evaluator can work with."""

    def cleaned(leaf: Tensor) -> Tensor:
        mask = diverged.view(-1, *([1] * (leaf.dim() - 1)))
        return torch.where(mask, torch.zeros_like(leaf), leaf)

    return tree_map(cleaned, parameters)


def learn(
    algorithm: Algorithm,
    state: State,
    experience: Experience,
    step_sizes: StepSizes,
    schedule: Schedule,
    sampling: Sampling,
    evaluator: Evaluator,
    *,
    steps: int,
    measured: Sequence[int],
    limit: Float[Tensor, " run"],
    start: int = 0,
    diverged: Bool[Tensor, " run"] | None = None,
    compiled: bool = False,
    on_phase: Callable[[str], object] = no_phase,
    reward_scale: float = 1.0,
    threads: int | None = None,
) -> Iterator[Measurement]:
    """Learn and yield a measurement after each of the updates that are to be measured.

    measured:   numbers of updates, increasing and up to `steps`, see `schedules.measured_steps`
    step_sizes: base step sizes, [run] each
    evaluator:  from the parameters of all runs, in float64, to named values [run]
    limit:      see `divergence_limit`
    start, diverged: updates already done, and the runs lost by then, when a run is resumed
    on_phase:   is called with what begins: `compile`, `learn` or `measure`
    reward_scale: what rewards are divided by for learning; what is measured and yielded as
        parameters is in the unit of the rewards that were given
    threads: of compiled updates on a CPU, those of torch if not given

    Raises ValueError for a number of a row or stream that does not exist.
    """
    on_phase("compile")
    check_row_numbers(experience)
    device = experience.stream_index.device
    transitions = with_scaled_rewards(experience.transitions, reward_scale)
    experience = experience._replace(transitions=transitions)
    advance = repeated_updates(
        algorithm,
        schedule,
        sampling,
        experience,
        step_sizes,
        state,
        compiled=compiled,
        threads=threads,
    )
    update = torch.tensor(start, device=device)
    lost = torch.zeros_like(limit, dtype=torch.bool) if diverged is None else diverged.to(device)
    done = start
    for target in (each for each in measured if each > start):
        on_phase("learn")
        # Not around the `yield`: the caller's own gradients are the caller's business.
        with torch.no_grad():
            state, update = advance(state, update, target - done)
            done = target
            lost = lost | diverged_runs(state.parameters, limit)
            # A device has then done its updates, so that both phases are what they say.
            known = lost.cpu()
            on_phase("measure")
            means = averaged(state.parameters, state.average)
            parameters = in_reward_units(means, reward_scale)
            values = evaluated(evaluator, parameters, lost)
        yield Measurement(done, values, known, state, parameters)


def evaluated(
    evaluator: Evaluator, parameters: Parameters, lost: Bool[Tensor, " run"]
) -> dict[str, Tensor]:
    """Return every metric of all runs, [run] each on the CPU, NaN for those that are lost."""
    double: Any = tree_map(lambda leaf: leaf.double(), without(parameters, lost))
    values = evaluator(Parameters(*double))
    # The evaluator may measure on another device than that of learning.
    gone = lost.cpu()
    missing = torch.full_like(gone, torch.nan, dtype=torch.float64)
    return {name: torch.where(gone, missing, value.cpu()) for name, value in values.items()}
