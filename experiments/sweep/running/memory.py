"""How much memory the shards of a study take, and how many configurations fit into one."""

import math
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from envs.finite.finite_mdp import FiniteMDP
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.parts.memory import problem_shape
from experiments.runs.command_line.checks import UsageError
from experiments.sweep.running.build import Cell
from neural_tdc.device_memory import GIGABYTE, available_bytes
from neural_tdc.learning.preparation import prepare
from neural_tdc.metrics.parts_of_runs import MEMORY

# Part of the free memory that a study takes of its own accord.
PART = 0.5
# Copies of a population's state that an update holds at the same time.
STATE_COPIES = 6
# Features of a method that learns from all transitions at once, at most.
METHOD_FEATURES = 512
# Bytes of the host that a worker takes before it has anything to do.
WORKER = 700 * 2**20


def memory_to_take(given: float | None, device: torch.device, *, here: bool = True) -> float:
    """Return the bytes of a device that a study may take: `given` gigabytes, or half of the free.

    here: whether the workers are on this machine; those of a cluster may have more

    Raises UsageError where more is given than the device has free, and where nothing is given and
    nobody can tell.
    """
    free = available_bytes(device)
    if given is not None:
        if here and free is not None and given * GIGABYTE > free:
            raise UsageError(
                f"--memory {given:g} is more than {device} has free: give at most "
                f"{math.floor(10 * free / GIGABYTE) / 10:g}"
            )
        return given * GIGABYTE
    if free is None:
        raise UsageError(f"--memory must be given: the free memory of {device} is not known")
    return PART * free


class Estimate(NamedTuple):
    """Bytes that a worker needs: whatever it runs, and for every run of a population."""

    fixed: int
    of_a_run: int

    def of(self, runs: int) -> int:
        """Return the bytes for a population of so many runs."""
        return self.fixed + self.of_a_run * runs


def estimate(cell: Cell) -> Estimate:
    """Estimate the memory of a cell: its streams and evaluator once, state and activations per run.

    A run's share is that of its state in as many copies as an update makes, and of its batch with
    all that is computed from it.
    """
    checked, settings = cell.plan, cell.settings
    mdp = checked.problem
    number = 4 if checked.dtype == torch.float32 else 8
    shape = problem_shape(mdp, given=checked.make_body is None)
    values = math.prod(shape)
    example = torch.randn(3, *shape).to(checked.dtype)
    transitions = checked.sampling.transitions(checked.steps)
    # A chain's streams hold the numbers of the states, others the observations themselves.
    row = 7 if isinstance(mdp, FiniteMDP) else 2 * values + 4
    streams = settings.runs * transitions * row * 8
    if isinstance(mdp, LoggedProblem):
        # All runs share the log, of which bytes stay bytes.
        length = mdp.transition.reward.shape[1]
        streams = length * (values if mdp.table is not None else 8 * row)
    # A process itself takes memory of the host.
    worker = WORKER if checked.device.type == "cpu" else 0
    fixed = worker + streams + 2 * MEMORY
    if not checked.rules:
        # A method sees its streams as they are, and one run's features at a time.
        return Estimate(fixed + transitions * METHOD_FEATURES * 2 * 8, transitions * 2 * values * 8)
    (rule,) = checked.rules.values()
    _, state = prepare(
        rule,
        checked.make_body,
        example,
        runs=1,
        seed=0,
        optimizers=checked.optimizers,
        averaging=checked.averaging,
    )
    numbers = sum(leaf.numel() for leaf in tree_leaves(state))
    units = sum(settings.hidden or [32]) + checked.width
    batch = settings.batch * (2 * values + 8 * units)
    return Estimate(fixed, number * (STATE_COPIES * numbers + batch) + 2**10)


def configurations_a_shard(cell: Cell, needed: Estimate, memory: float, workers: int) -> int:
    """Return how many configurations fit into one worker's part of the memory, in bytes.

    Raises UsageError where not even one does.
    """
    free = memory / workers - needed.fixed
    most = int(free // (needed.of_a_run * cell.settings.runs))
    if most < 1:
        least = workers * needed.of(cell.settings.runs) / GIGABYTE
        raise UsageError(
            f"--memory {memory / GIGABYTE:.3g}: one configuration of {cell.rule} on {cell.problem} "
            f"with {cell.settings.runs} runs needs about {least:.2g} gigabytes with {workers} "
            f"workers; give more, fewer --runs or fewer --workers"
        )
    return most
