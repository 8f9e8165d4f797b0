"""Where the shards of a study are run: processes on this machine, or a Ray cluster.

An engine takes shards and yields each with its results as soon as they are there, in any order. A
worker that dies costs its shards another try, and nothing else.
"""

import contextlib
import multiprocessing
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.processes import deaf_to_stops, end_with_parent, terminable
from experiments.runs.command_line.program import Stopped
from experiments.runs.recording.finished_parts import Engine, OnProgress
from experiments.sweep.running.measurements import Results
from experiments.sweep.running.ray_address import cluster_address
from experiments.sweep.running.shard import Shard, run_shard
from neural_tdc.messages import first_line

# Times that a shard is tried again after its worker has died.
RETRIES = 3
# Seconds to wait for a sign of life of a worker's progress.
TICK = 0.5

# In a worker: where it tells how far it is.
_progress: Any = None


def _begin(progress: Any, path: Sequence[str]) -> None:
    """Prepare a worker: what it can import, and where it tells how far it is."""
    global _progress
    end_with_parent()
    _progress = progress
    sys.path[:] = path


def _work(shard: Shard) -> Results:
    return run_shard(shard, _progress.put)


def _drain(progress: Any, on_progress: OnProgress) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            on_progress(progress.get_nowait())


def here(shards: Sequence[Shard], on_progress: OnProgress) -> Iterator[tuple[Shard, Results]]:
    """Run shards one after another in this process."""
    for shard in shards:
        yield shard, run_shard(shard, on_progress)


def local(workers: int) -> Engine[Shard]:
    """Return the engine of so many processes on this machine.

    Raises Stopped, when it is run, where a shard's worker has died more often than it is retried.
    """
    if workers == 1:
        return here

    def run(shards: Sequence[Shard], on_progress: OnProgress) -> Iterator[tuple[Shard, Results]]:
        left = {shard.name: shard for shard in shards}
        deaths = 0
        context = multiprocessing.get_context("spawn")
        progress: Any = context.Queue()
        while left:
            pool = ProcessPoolExecutor(workers, context, _begin, (progress, list(sys.path)))
            futures: dict[Future[Results], Shard] = {}
            try:
                with deaf_to_stops():
                    futures = {pool.submit(_work, shard): shard for shard in left.values()}
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, TICK, FIRST_COMPLETED)
                    _drain(progress, on_progress)
                    for future in done:
                        results = future.result()
                        shard = left.pop(futures[future].name)
                        yield shard, results
            except BrokenProcessPool:
                deaths += 1
                if deaths > RETRIES:
                    raise Stopped(
                        f"error: a worker died {deaths} times, probably because there was too "
                        "little memory; the finished shards are kept, continue with --resume and a "
                        "smaller --memory or fewer --workers"
                    ) from None
                print("warning: a worker died; its shards are run again", file=sys.stderr)
            finally:
                # Also when the program is stopped: cancelled tasks are not waited for. Killed
                # first, since from Python 3.12 on the end of a pool waits for the other processes
                # of a broken one, and these do not hear the signal that it sends them.
                if left:
                    for process in list((pool._processes or {}).values()):
                        process.kill()
                pool.shutdown(wait=not left, cancel_futures=True)

    return run


def ray_cluster(address: str | None) -> Engine[Shard]:
    """Return the engine of a Ray cluster, one task a shard with its number of threads as CPUs.

    address: see `cluster_address`

    Raises UsageError where Ray is not installed or no server answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray needs the package ray: pip install '.[distributed]'"
        ) from None
    address = cluster_address(address)

    def run(shards: Sequence[Shard], on_progress: OnProgress) -> Iterator[tuple[Shard, Results]]:
        own = not ray.is_initialized()
        if own:
            # It would ask about its statistics on the screen.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(address=address or "local", **_settings_of_ray())
            except ConnectionError:
                raise UsageError(
                    f"no Ray cluster runs at {address or 'this machine'}; is it up ('ray status')?"
                ) from None
        try:
            # Ray has put its own handler in place of ours.
            with terminable():
                yield from _results_by_ray(ray, shards, on_progress)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            said = first_line(error)
            raise Stopped(
                f"error: a shard was lost more than {RETRIES} times: {said}; the finished shards "
                "are kept, continue with --resume"
            ) from None
        finally:
            if own:
                ray.shutdown()

    return run


def _results_by_ray(
    ray: Any, shards: Sequence[Shard], on_progress: OnProgress
) -> Iterator[tuple[Shard, Results]]:
    # A worker or a node may die at any time; Ray then runs the task elsewhere.
    task: Any = ray.remote(max_retries=RETRIES)(run_shard)
    pending = {task.options(num_cpus=shard.threads).remote(shard): shard for shard in shards}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        for reference in ready:
            shard = pending.pop(reference)
            results: Results = ray.get(reference)
            on_progress(shard.size)
            yield shard, results


def _settings_of_ray() -> dict[str, Any]:
    """Return how Ray is started: silent, and with workers that import from the present folder.

    Every machine has its own copy of the code under the same path, as it has its own environment.
    """
    here = str(Path.cwd())
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return {
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }


def make_engine(name: str, workers: int, address: str | None) -> Engine[Shard]:
    """Return the engine of a name; see `local` and `ray_cluster`."""
    return ray_cluster(address) if name == "ray" else local(workers)
