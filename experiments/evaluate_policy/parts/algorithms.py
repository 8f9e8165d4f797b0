"""From a plan and a task to what learns: algorithms and initial states, tried before long work."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from agents.task import Task, experience_on
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError, named
from experiments.runs.command_line.computing import compilation, threads_for
from neural_tdc.action_values.rows import body_of_rows
from neural_tdc.compiled.private_compiler import compiler_available
from neural_tdc.learning.algorithm import Algorithm, State
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.reward_scale import fixed_reward_scale, scale_of_returns
from neural_tdc.learning.schedules import schedule
from neural_tdc.messages import first_line
from neural_tdc.types import StepSizes, mapped

# Below this many updates a compiled program does not win back the time of its compilation.
UPDATES_WORTH_COMPILING = 10_000

Prepared = dict[str, tuple[Algorithm, State]]


def compiles(settings: EvaluationSettings, plan: EvaluationPlan) -> tuple[bool, str | None]:
    """Decide whether to compile; the second value is a warning, if there is one."""
    worth = bool(plan.rules) and plan.steps >= UPDATES_WORTH_COMPILING
    available = compiler_available(plan.device)
    return compilation(settings.compile, worth=worth, available=available)


def prepared_rules(settings: EvaluationSettings, plan: EvaluationPlan, task: Task) -> Prepared:
    """Return every rule's algorithm and initial state; UsageError for what cannot learn here."""
    return {name: _prepared(name, rule, settings, plan, task) for name, rule in plan.rules.items()}


def use_threads_for(prepared: Prepared) -> None:
    """Set the number of threads for the largest population; leave it without any."""
    sizes = [sum(leaf.numel() for leaf in tree_flatten(state)[0]) for _, state in prepared.values()]
    if sizes:
        torch.set_num_threads(threads_for(max(sizes)))


def _prepared(
    name: str, rule: Any, settings: EvaluationSettings, plan: EvaluationPlan, task: Task
) -> tuple[Algorithm, State]:
    cut = task.truncates and not rule.defined_at_truncation
    if cut and settings.data is not None:
        raise UsageError(
            f"--rule {name} follows episodes to their ends: in {' '.join(settings.data)} some are "
            f"truncated, or it is gone through again by --steps {plan.steps} and ends within one"
        )
    if cut:
        raise UsageError(
            f"--rule {name} is defined for problems without truncation only: the time limit of "
            f"{task.name} cuts episodes"
        )

    make_body = plan.make_body
    if task.actions is not None:
        make_body = body_of_rows(task.actions.rows, make_body)

    def made() -> tuple[Algorithm, State]:
        return prepare(
            rule,
            make_body,
            task.example,
            runs=settings.runs,
            seed=settings.seed,
            optimizers=plan.optimizers,
            averaging=plan.averaging,
            constraint=settings.constraint,
            head=task.head,
            device=plan.device,
        )

    own = _own_parts(name, settings)
    if not own:
        return made()
    with named(own):
        algorithm, state = made()
        try_update(algorithm, state, plan, task)
        return algorithm, state


def _own_parts(rule: str, settings: EvaluationSettings) -> str:
    """Return the flags that name parts of a run which are the user's own; "" without any."""
    flags = (f"--rule {rule}", f"--body {settings.body}")
    return " ".join(flag for flag in flags if ":" in flag)


def can_be_compiled(
    prepared: Prepared, settings: EvaluationSettings, plan: EvaluationPlan, task: Task
) -> bool:
    """Try it with parts of the user's own; UsageError where --compile on asks for it in vain."""
    for name, (algorithm, state) in prepared.items():
        own = _own_parts(name, settings)
        if not own:
            continue
        try:
            try_update(algorithm, state, plan, task, compiled=True)
        except Exception as error:  # Whatever a compiler says of what has just run without it.
            said = first_line(error)
            if settings.compile == "on":
                raise UsageError(f"--compile on: {own} cannot be compiled: {said}") from error
            print(f"warning: {own} runs without compilation: {said}", file=sys.stderr)
            return False
    return True


def scale_of_rewards(settings: EvaluationSettings, task: Task) -> float:
    """Return what rewards are divided by for learning, `auto` from the first stream of the task."""
    fixed = fixed_reward_scale(settings.reward_scale)
    if fixed is not None:
        return fixed
    return scale_of_returns(mapped(task.experience.transitions, lambda leaf: leaf[0]))


def task_runs(task: Task) -> int:
    """Return the size of the population."""
    return len(task.experience.stream_index)


def run_step_sizes(
    algorithm: Algorithm, plan: EvaluationPlan, task: Task, like: torch.Tensor
) -> StepSizes:
    """Return the base step sizes of every run, [run] each, on the device of `like`."""
    base = base_steps(algorithm.rule, plan.step_sizes, task_runs(task), like)
    return StepSizes(*(size.to(plan.dtype) for size in base))


def try_update(
    algorithm: Algorithm, state: State, plan: EvaluationPlan, task: Task, compiled: bool = False
) -> None:
    """Take one update and one measurement, and forget them: what fails then fails before a run."""
    limit = divergence_limit(state.parameters)
    measurements = learn(
        algorithm,
        state,
        experience_on(task.experience, plan.device),
        run_step_sizes(algorithm, plan, task, limit),
        schedule("constant"),
        plan.sampling,
        task.evaluator(algorithm.features, algorithm.rule),
        steps=1,
        measured=[1],
        limit=limit,
        compiled=compiled,
    )
    before, after = (_shapes(tree_flatten(each)[0]) for each in (state, next(measurements).state))
    if after != before:
        raise ValueError(f"an update turns a state of shapes {before} into one of {after}")


def _shapes(leaves: Sequence[torch.Tensor]) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in leaves]
