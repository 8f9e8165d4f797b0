"""Algorithm 1 in JAX, compared with this library: python -m benchmarks.jax_peer.

Both programs compute the same update of the same body 8-32-16 on the same streams. In JAX it is a
compiled scan over updates of a vmap over runs. First both learn in float64, and their parameters
must agree. Then both are timed in float32, in alternating time windows of one call: wall time, and
the CPU time of all threads, which other programs on the machine disturb less. The first call of
each is timed in a process of its own (`benchmarks.jax_first_call`). The program needs JAX:
`make bench` installs it.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.command_line import (
    CommandLine,
    add_population_flags,
    result_file,
    whole_number,
    write_results,
)
from benchmarks.jax_first_call import first_call
from benchmarks.machine import seconds, use_threads
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import repeated_updates
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import MarkovSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes, Transition

STEPS = (1e-3, 1e-2, 1e-2)
DISCOUNT = 0.99
# Updates in one call of either program.
CALL = 100
# The same for one run, whose update is not much longer than the call.
SINGLE_CALL = 1000
# Calls in one window.
WINDOW = 3
THREADS = torch.get_num_threads()


def streams(runs: int, length: int, dtype: torch.dtype) -> Transition:
    """Draw streams of normal observations and rewards, leaves [run, length, …]."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(runs, length + 1, 8, generator=generator, dtype=torch.float64)
    reward = torch.randn(runs, length, generator=generator, dtype=torch.float64).to(dtype)
    ones = torch.ones_like(reward)
    before, after = observation[:, :-1].to(dtype), observation[:, 1:].to(dtype)
    return Transition(before, reward, DISCOUNT * ones, after, ones, 0 * ones)


def features(body: Any, observation: Any) -> Any:
    """Return the body's features [batch, 16]."""
    first, first_bias, second, second_bias = body
    hidden = jnp.tanh(observation @ first.T + first_bias)
    return jnp.tanh(hidden @ second.T + second_bias)


def jax_update(parameters: Any, batch: Any) -> Any:
    """Take one update of one run; batch: observation, reward and next observation."""
    body, head, auxiliary = parameters
    observation, reward, following = batch
    phi, after = features(body, observation), features(body, following)
    delta = reward + DISCOUNT * (after @ head) - phi @ head
    inner = phi @ auxiliary
    c = (delta - inner)[:, None] * auxiliary - inner[:, None] * head
    c_next = DISCOUNT * inner[:, None] * head

    def weighted(body: Any) -> Any:
        both = (features(body, observation) * c).sum() + (features(body, following) * c_next).sum()
        return both / len(reward)

    gradient = jax.grad(weighted)(body)
    direction = (delta[:, None] * phi - DISCOUNT * inner[:, None] * after).mean(0)
    moved = jax.tree.map(lambda value, slope: value - STEPS[0] * slope, body, gradient)
    new_auxiliary = auxiliary + STEPS[2] * ((delta - inner)[:, None] * phi).mean(0)
    return moved, head + STEPS[1] * direction, new_auxiliary


def jax_program(
    stream: Transition, batch: int, count: int
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return the compiled function of `count` updates: (parameters, number of the first one)."""
    leaves = (stream.observation, stream.reward, stream.next_observation)
    data = tuple(jnp.asarray(leaf.numpy()) for leaf in leaves)
    length = stream.reward.shape[1]

    def one(carried: Any, _: Any) -> tuple[Any, None]:
        parameters, update = carried
        times = (update * batch + jnp.arange(batch)) % length
        batches = tuple(leaf[:, times] for leaf in data)
        return (jax.vmap(jax_update)(parameters, batches), update + 1), None

    @jax.jit
    def several(parameters: Any, update: Any) -> tuple[Any, Any]:
        return jax.lax.scan(one, (parameters, update), None, length=count)[0]

    return several


class Ours:
    """Our learner on a stream; `go` takes `count` updates, once it is built."""

    def __init__(self, stream: Transition, batch: int, count: int) -> None:
        runs, self.stream, self.batch, self.count = len(stream.reward), stream, batch, count
        self.algorithm, self.state = prepare(
            RULES["tdc"],
            partial(mlp, features=16, hidden=(32,)),
            stream.observation[0, :100],
            runs=runs,
            seed=0,
        )
        self.update = torch.zeros((), dtype=torch.int64)

    def build(self, *, compiled: bool) -> None:
        """Make the function that takes the updates."""
        runs = len(self.stream.reward)
        index = torch.arange(runs)
        sizes = StepSizes(*(self.stream.reward.new_full((runs,), size) for size in STEPS))
        experience = Experience(self.stream, None, index, index.clone())
        self.advance = repeated_updates(
            self.algorithm,
            schedule("constant"),
            MarkovSampling(self.batch),
            experience,
            sizes,
            self.state,
            compiled=compiled,
        )

    def parameters(self) -> tuple[Any, Any, Any]:
        """Return copies of the parameters as JAX's program takes them."""
        body, head, auxiliary = self.state.parameters
        arrays = [jnp.array(leaf.numpy()) for leaf in (*body.values(), head, auxiliary["tdc"])]
        return tuple(arrays[:4]), arrays[4], arrays[5]

    def go(self) -> None:
        """Take `count` updates."""
        with torch.no_grad():
            self.state, self.update = self.advance(self.state, self.update, self.count)


def largest_difference(runs: int, batch: int) -> float:
    """Return how far the parameters of both differ after `CALL` updates in float64."""
    stream = streams(runs, 150, torch.float64)
    with jax.enable_x64(True):
        ours = Ours(stream, batch, CALL)
        ours.build(compiled=False)
        theirs, _ = jax_program(stream, batch, CALL)(ours.parameters(), jnp.zeros((), jnp.int64))
        ours.go()
        pairs = zip(jax.tree.leaves(theirs), jax.tree.leaves(ours.parameters()), strict=True)
        return max(float(jnp.abs(one - other).max()) for one, other in pairs)


def both_begun(runs: int, batch: int, count: int) -> tuple[Ours, tuple[Any, Any]]:
    """Return our learner and JAX's parameters and number of the update, before their first calls.

    Streams and networks are drawn, and JAX has begun to use the processor.
    """
    stream = streams(runs, 2000 if runs <= 256 else 4 * max(batch, 100), torch.float32)
    # Before compilation: the number of threads is part of the program.
    use_threads(runs, THREADS)
    ours = Ours(stream, batch, count)
    return ours, jax.block_until_ready((ours.parameters(), jnp.zeros((), jnp.int32)))


def compared(runs: int, batch: int, rounds: int, count: int) -> dict[str, float]:
    """Time both in interleaved windows: microseconds an update, seconds to the first one.

    count: updates per call of the compiled programs
    """
    ours, (parameters, number) = both_begun(runs, batch, count)
    ours.build(compiled=True)
    ours.go()
    program = jax_program(ours.stream, batch, count)
    jax.block_until_ready(program(parameters, number))
    # Our program is stored by now.
    first = [first_call(side, runs, batch, count) for side in ("ours", "jax")]

    def theirs() -> None:
        nonlocal parameters, number
        parameters, number = jax.block_until_ready(program(parameters, number))

    best, least = [np.inf, np.inf], [np.inf, np.inf]
    for _ in range(rounds):
        for index, go in enumerate((ours.go, theirs)):
            begun = time.process_time()
            best[index] = min(best[index], seconds(go, WINDOW, torch.device("cpu")) / count)
            used = (time.process_time() - begun) / (WINDOW * count)
            least[index] = min(least[index], used)
    use_threads(0, THREADS)
    return {
        "runs": runs,
        "batch": batch,
        "microseconds": 1e6 * best[0],
        "jax_microseconds": 1e6 * best[1],
        "times_jax": best[1] / best[0],
        "cpu_times_jax": least[1] / least[0],
        "first_seconds": first[0],
        "jax_first_seconds": first[1],
        "cpu_microseconds": 1e6 * least[0],
        "jax_cpu_microseconds": 1e6 * least[1],
    }


def main() -> None:
    """Check that both compute the same, time them, print a table and write JSON."""
    parser = CommandLine("jax_peer", __doc__)
    add_population_flags(parser)
    parser.add_argument(
        "--updates-per-call",
        type=whole_number(),
        help=f"of the compiled programs ({CALL}; {SINGLE_CALL} for a single run)",
    )
    parser.add_argument(
        "--out",
        type=result_file,
        default=Path("runs/bench-jax.json"),
        help="file of the results, JSON",
    )
    options = parser.parse_args()
    difference = max(largest_difference(3, batch) for batch in options.batch)
    print(f"parameters after {CALL} updates in float64 differ by {difference:.1e} at most")
    if difference > 1e-10:
        raise SystemExit("the two programs do not compute the same")
    rows = []
    print("{:>6} {:>6} {:>10} {:>10} {:>8} {:>10} {:>9} {:>9}".format(*_HEAD))
    for batch in options.batch:
        for runs in options.runs:
            count = options.updates_per_call or (SINGLE_CALL if runs == 1 else CALL)
            row = compared(runs, batch, options.rounds, count)
            rows.append(row)
            print(
                "{:>6.0f} {:>6.0f} {:>10.1f} {:>10.1f} {:>8.2f} {:>10.2f} {:>9.1f} {:>9.1f}".format(
                    *list(row.values())[: len(_HEAD)]
                )
            )
    result = {"jax": jax.__version__, "torch": torch.__version__, "rows": rows}
    write_results(options.out, result)


_HEAD = ("runs", "batch", "µs a step", "JAX µs", "x JAX", "x JAX, CPU", "first s", "JAX first")


if __name__ == "__main__":
    main()
