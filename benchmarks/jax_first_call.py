"""Seconds of a first call: python -m benchmarks.jax_first_call SIDE RUNS BATCH UPDATES.

SIDE is `ours` or `jax`. The clock of either side begins when the libraries are imported and streams
and networks are drawn, and before anything of the update is made. It ends with the first call of so
many updates. A process serves one call only: a second one would find what the first has imported
and compiled. `benchmarks.jax_peer` runs this program.
"""

import subprocess
import sys
import time


def first_call(side: str, runs: int, batch: int, count: int) -> float:
    """Return the seconds of one side's first call, `ours` or `jax`, in a process of its own.

    Raises CalledProcessError where it fails.
    """
    words = (side, str(runs), str(batch), str(count))
    command = [sys.executable, "-m", "benchmarks.jax_first_call", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Print the seconds of one first call."""
    import jax

    from benchmarks.jax_peer import both_begun, jax_program

    side, *sizes = sys.argv[1:]
    runs, batch, count = map(int, sizes)
    ours, (parameters, number) = both_begun(runs, batch, count)
    begun = time.perf_counter()
    if side == "jax":
        jax.block_until_ready(jax_program(ours.stream, batch, count)(parameters, number))
    else:
        ours.build(compiled=True)
        ours.go()
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
