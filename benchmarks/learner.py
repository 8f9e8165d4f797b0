"""Run-steps per second of the learner: python -m benchmarks.learner.

A run-step is one update of one run. The program is Algorithm 1 with a body 8-32-16 in float32 and
draws its transitions from a stream. It is compared, in one call, with the plain loop that a user
would write and with the limit of the machine. Machines are noisy, so every number is the best of
several time windows, in which the programs alternate. Compare ratios, not absolute numbers.
"""

import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.command_line import (
    CommandLine,
    add_population_flags,
    existing_device,
    result_file,
    write_results,
)
from benchmarks.machine import copy_window, matrix_window, seconds, use_threads
from benchmarks.plain_loop import plain_loop
from neural_tdc.compiled.blocks import SMALL
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import repeated_updates
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import MarkovSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, Transition

PARAMETERS = 8 * 32 + 32 + 32 * 16 + 16 + 16 + 16
# Multiply-adds of both states' features forwards; backwards once more for the weights and once
# for the hidden layer; the head's and the auxiliary's products are too few to count.
OPERATIONS = 2 * 2 * (2 * (8 * 32 + 32 * 16) + 32 * 16)
STREAM = 2_000
# Updates between two looks at the clock: of a small population many, as between measurements.
CALL = {True: 1000, False: 50}


def random_population(
    runs: int, length: int, optimizer: str, device: torch.device
) -> tuple[Transition, Algorithm, State]:
    """Return random streams, one a run, and a population of `tdc` with a body 8-32-16 for them."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(runs, length + 1, 8, generator=generator).to(device)
    reward = torch.randn(runs, length, generator=generator).to(device)
    ones = torch.ones_like(reward)
    here, there = observation[:, :-1].contiguous(), observation[:, 1:].contiguous()
    stream = Transition(here, reward, 0.99 * ones, there, ones, torch.zeros_like(reward))
    algorithm, state = prepare(
        RULES["tdc"],
        partial(mlp, features=16, hidden=(32,)),
        here[0, :100],
        runs=runs,
        seed=0,
        optimizers=part_optimizers(optimizer),
    )
    return stream, algorithm, state


def population_sizes(runs: int, device: torch.device) -> StepSizes:
    """Return the step sizes of body, head and auxiliary, [run] each."""
    return StepSizes(*(torch.full((runs,), size, device=device) for size in (1e-3, 1e-2, 1e-2)))


def learner(
    runs: int, batch: int, optimizer: str, device: torch.device
) -> tuple[Callable[[], None], int]:
    """Return a function that takes some updates of a population, and how many it takes."""
    length = max(STREAM // 4, batch * 4) if runs > 256 else STREAM
    stream, algorithm, state = random_population(runs, length, optimizer, device)
    stream_index = torch.arange(runs, device=device)
    experience = Experience(stream, None, stream_index, stream_index.clone())
    advance = repeated_updates(
        algorithm,
        schedule("constant"),
        MarkovSampling(batch),
        experience,
        population_sizes(runs, device),
        state,
        compiled=True,
    )
    update = torch.zeros((), dtype=torch.int64, device=device)

    call = CALL[runs <= SMALL]

    def go() -> None:
        nonlocal state, update
        state, update = advance(state, update, call)

    go()
    return go, call


def measured(
    populations: list[int], batches: list[int], rounds: int, device: torch.device
) -> dict[str, object]:
    """Measure everything in interleaved windows and return it."""
    cases: dict[tuple[str, int, int], tuple[Callable[[], None], int]] = {}
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(STREAM + 1, 8, generator=generator).to(device)
    reward = torch.randn(STREAM, generator=generator).to(device)
    compile_seconds = {}
    threads = torch.get_num_threads()
    for optimizer in ("sgd", "rmsprop"):
        for batch in batches:
            cases[optimizer, batch, 0] = (plain_loop(observation, reward, batch, optimizer), 1)
            for runs in populations:
                # Before compilation: the number of threads is part of the program.
                use_threads(runs, threads)
                begun = time.perf_counter()
                cases[optimizer, batch, runs] = learner(runs, batch, optimizer, device)
                compile_seconds[optimizer, batch, runs] = time.perf_counter() - begun
                print(
                    f"{optimizer}, batch {batch}, {runs} runs: ready after "
                    f"{compile_seconds[optimizer, batch, runs]:.1f} s",
                    file=sys.stderr,
                )
    use_threads(0, threads)
    copy, matrix = copy_window(device), matrix_window(device)
    best: dict[tuple[str, int, int], float] = {}
    copy_rate = matrix_rate = 0.0
    repeats = {}
    for case, (function, _) in cases.items():
        use_threads(case[2], threads)
        once = seconds(function, 1, device)
        repeats[case] = max(1, int(0.2 / max(once, 1e-6)))
    for _ in range(rounds):
        use_threads(0, threads)
        copy_rate, matrix_rate = max(copy_rate, copy()), max(matrix_rate, matrix())
        for case, (function, count) in cases.items():
            use_threads(case[2], threads)
            one = seconds(function, repeats[case], device) / count
            best[case] = min(best.get(case, float("inf")), one)
    rows = []
    for (optimizer, batch, runs), one in best.items():
        if not runs:
            continue
        plain = best[optimizer, batch, 0]
        state = 2 if optimizer == "rmsprop" else 1
        by_memory = copy_rate / (2 * 4 * PARAMETERS * state)
        by_operations = matrix_rate / (OPERATIONS * batch)
        limit = min(by_memory, by_operations)
        rows.append(
            {
                "optimizer": optimizer,
                "batch": batch,
                "runs": runs,
                "microseconds_a_step": one * 1e6,
                "run_steps_per_second": runs / one,
                "times_plain_loop": runs / one * plain,
                "share_of_limit": runs / one / limit,
                "limit": limit,
                "limited_by": "memory" if by_memory < by_operations else "operations",
                "plain_loop_run_steps_per_second": 1 / plain,
                "compile_seconds": compile_seconds[optimizer, batch, runs],
            }
        )
    return {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads,
        "torch": torch.__version__,
        "copy_bytes_per_second": copy_rate,
        "matrix_operations_per_second": matrix_rate,
        "rows": rows,
    }


def table(result: dict[str, object]) -> str:
    """Return the rows as a table for the screen."""
    head = ("optimizer", "batch", "runs", "µs a step", "run-steps/s", "× plain loop", "of limit")
    lines = ["{:>9} {:>6} {:>6} {:>11} {:>12} {:>13} {:>9}".format(*head)]
    for row in result["rows"]:  # type: ignore[attr-defined]
        lines.append(
            f"{row['optimizer']:>9} {row['batch']:>6} {row['runs']:>6} "
            f"{row['microseconds_a_step']:>11.1f} {row['run_steps_per_second']:>12,.0f} "
            f"{row['times_plain_loop']:>13.1f} {row['share_of_limit']:>8.0%}"
        )
    lines.append(
        f"copy {result['copy_bytes_per_second'] / 1e9:.1f} GB/s, "  # type: ignore[operator]
        f"matrix product {result['matrix_operations_per_second'] / 1e9:.0f} Gop/s, "  # type: ignore[operator]
        f"{result['threads']} threads; limit: parameters read and written once a step at the copy "
        "rate, operations at the matrix rate, whichever is slower"
    )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, print the table and write the JSON."""
    parser = CommandLine("learner", __doc__)
    add_population_flags(parser)
    parser.add_argument("--device", type=existing_device, default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--out", type=result_file, default=Path("runs/bench.json"), help="file of the results, JSON"
    )
    options = parser.parse_args()
    result = measured(options.runs, options.batch, options.rounds, options.device)
    write_results(options.out, result)
    print(table(result))


if __name__ == "__main__":
    main()
