"""The shards of a study: many configurations of a rule as one population, from seed to errors."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from agents.task import Task, experience_on
from experiments.evaluate_policy.learning.streams import run_streams
from experiments.evaluate_policy.parts.algorithms import prepared_rules, scale_of_rewards
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.evaluate_policy.parts.problems import Problem
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.computing import compilation
from experiments.sweep.running.build import Cell, shared_plan
from experiments.sweep.running.configurations import Configuration
from experiments.sweep.running.measurements import Results, summed_up
from experiments.sweep.settings.sweep_settings import SweepSettings
from neural_tdc.baselines.prefixes import prefix_measurements, prefix_steps
from neural_tdc.compiled.private_compiler import compiler_available
from neural_tdc.learning.algorithm import State
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Measurement, StepSizes

# Run-steps, or updates, of a shard from which on it wins back the time of its compilation.
RUN_STEPS_WORTH_COMPILING = 1_000_000
MANY_UPDATES = 4_000
# A compiled population holds a multiple of so many configurations, so that the shards of a study
# are of few sizes, for each of which a program is compiled.
CONFIGURATIONS_TOGETHER = 8

# A problem made ready is used again by the next shards of the worker.
_ready: dict[str, tuple[Problem, Task]] = {}


class Shard(NamedTuple):
    """A part of a study that is run at once, in values that any engine may send anywhere.

    name:           of its file
    settings:       of policy evaluation
    configurations: [configuration] (body, head, auxiliary) step sizes
    """

    name: str
    settings: EvaluationSettings
    configurations: list[tuple[float, float, float]]
    threads: int
    compiled: bool
    curves: bool

    @property
    def size(self) -> int:
        """Return its run-steps, the updates of all its runs together."""
        return len(self.configurations) * self.settings.runs * (self.settings.steps or 0)


def reported_settings(cell: Cell, settings: SweepSettings) -> EvaluationSettings:
    """Return the settings of the runs that a study reports: fresh ones where there are any."""
    if settings.fresh_runs == 0:
        return cell.settings
    runs = settings.runs if settings.fresh_runs is None else settings.fresh_runs
    return replace(cell.settings, seed=settings.seed + 1, runs=runs)


def shards(
    cell: Cell, several: Sequence[Configuration], most: int, settings: SweepSettings, *, fresh: bool
) -> list[Shard]:
    """Cut configurations of a cell into shards of at most `most` of them, of about equal size.

    fresh: whether they run on the fresh seeds, with their whole curves kept
    """
    evaluation = reported_settings(cell, settings) if fresh else cell.settings
    count = -(-len(several) // most)
    ends = [index * len(several) // count for index in range(count + 1)]
    return [
        _shard(evaluation, several[begin:end], cell, settings.threads, fresh)
        for begin, end in itertools.pairwise(ends)
    ]


def _shard(
    evaluation: EvaluationSettings,
    several: Iterable[Configuration],
    cell: Cell,
    threads: int,
    curves: bool,
) -> Shard:
    sizes = [(each.body_step, each.head_step, each.auxiliary_step) for each in several]
    updates = evaluation.steps or 0
    work = len(sizes) * evaluation.runs * updates
    compiled, _ = compilation(
        evaluation.compile,
        worth=work >= RUN_STEPS_WORTH_COMPILING or updates >= MANY_UPDATES,
        available=compiler_available(cell.plan.device),
    )
    # Where it runs, and what it was called by, changes nothing of what comes out.
    idle = ("device", "preset")
    told = {name: value for name, value in stored(evaluation).items() if name not in idle}
    content = json.dumps([told, sizes, threads, compiled, curves], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:20]
    return Shard(name, evaluation, sizes, threads, compiled, curves)


def _plan_and_task(settings: EvaluationSettings) -> tuple[EvaluationPlan, Task]:
    """Return the plan and its problem made ready, from the last call if that was for the same."""
    of_rule = ("rule", "body_step", "head_step", "auxiliary_step", "compile")
    key = repr({name: value for name, value in vars(settings).items() if name not in of_rule})
    problem, task = _ready.get(key, (None, None))
    checked = shared_plan(settings, problem)
    if task is None:
        _ready.clear()
        task = checked.task(settings)
        if task.truth is None and settings.truth_states and settings.data is None:
            raise ValueError(
                f"{' '.join(task.notes)}: study it with --truth-states 0, and --select by an error "
                "that needs no truth"
            )
        _ready[key] = checked.problem, task
    return checked, task


def _side_by_side(population: Any, configurations: int) -> Any:
    """Put copies of a population of runs one behind another, one a configuration."""

    def copied(leaf: Tensor) -> Tensor:
        return leaf.repeat(configurations, *([1] * (leaf.dim() - 1)))

    return tree_map(copied, population)


def _step_sizes(
    several: Sequence[tuple[float, float, float]], runs: int, rule: Rule, like: Tensor
) -> StepSizes:
    columns = torch.tensor(several, dtype=like.dtype, device=like.device).T
    return rule.step_sizes(StepSizes(*(column.repeat_interleave(runs) for column in columns)))


def _of_method(
    shard: Shard, checked: EvaluationPlan, task: Task, on_progress: Callable[[int], None]
) -> Results:
    """Run the shard of a control that learns from all transitions at once."""
    (method,) = checked.methods.values()
    settings = shard.settings
    measurements = prefix_measurements(
        method,
        run_streams(task, checked.device),
        lambda features: task.evaluator(features, Rule()),
        steps=checked.steps,
        prefixes=settings.prefixes,
        seed=settings.seed,
    )
    steps = prefix_steps(checked.steps, settings.prefixes)
    return summed_up(measurements, steps, 1, on_progress, curves=shard.curves)


def run_shard(shard: Shard, on_progress: Callable[[int], None] = lambda done: None) -> Results:
    """Run a shard and return its results; what comes out depends on the shard alone.

    on_progress: called with the run-steps done since the last call

    The result holds, for every error, `auc/NAME` and `final/NAME` [configuration, run], NaN where
    a run diverged, `diverged` [configuration, run], and where curves are asked for
    `curve/NAME` [measurement, configuration, run] with `steps` [measurement].
    """
    torch.set_num_threads(shard.threads)
    settings = shard.settings
    checked, task = _plan_and_task(settings)
    if checked.methods:
        return _of_method(shard, checked, task, on_progress)
    ((algorithm, state),) = prepared_rules(settings, checked, task).values()
    runs, count = settings.runs, len(shard.configurations)
    several = [*shard.configurations]
    if shard.compiled:
        several += several[:1] * (-count % CONFIGURATIONS_TOGETHER)
    whole: State = _side_by_side(state, len(several))
    experience = experience_on(task.experience, checked.device)
    experience = experience._replace(
        stream_index=experience.stream_index.repeat(len(several)),
        key=experience.key.repeat(len(several)),
    )
    like = whole.parameters.head
    steps = measured_steps(checked.steps, settings.measure_every)
    measurements = learn(
        algorithm,
        whole,
        experience,
        _step_sizes(several, runs, algorithm.rule, like),
        schedule(settings.schedule, checked.steps),
        checked.sampling,
        task.evaluator(algorithm.features, algorithm.rule),
        steps=checked.steps,
        measured=steps,
        limit=divergence_limit(whole.parameters),
        compiled=shard.compiled,
        reward_scale=scale_of_rewards(settings, task),
    )
    wanted = (_first_of(each, count * runs) for each in measurements)
    return summed_up(wanted, steps, count, on_progress, curves=shard.curves)


def _first_of(measurement: Measurement, members: int) -> Measurement:
    """Return a measurement of the first members of a population."""
    values = {name: value[:members] for name, value in measurement.values.items()}
    return measurement._replace(values=values, diverged=measurement.diverged[:members])
