"""What the settings of policy evaluation stand for: problem, rules, body and step sizes, tried."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from agents.action_chain import action_chain_task
from agents.logged_task import logged_task
from agents.policy_evaluation import chain_task, control_task
from agents.resampled_task import resampled
from agents.task import OnTaskProgress, Task, no_progress
from envs.control.problems import ControlProblem
from envs.finite.finite_mdp import FiniteMDP
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.parts.actions import heads_for
from experiments.evaluate_policy.parts.body import HIDDEN, chosen_body, tried_width
from experiments.evaluate_policy.parts.data import content, logged, runs_alike
from experiments.evaluate_policy.parts.memory import check_run_memory
from experiments.evaluate_policy.parts.policies import policy_contents
from experiments.evaluate_policy.parts.problems import (
    Problem,
    experience_flags,
    made_problem,
    problem_flags,
    problem_hints,
)
from experiments.evaluate_policy.parts.rules import rule_of
from experiments.evaluate_policy.settings.effects import (
    check_average,
    check_rules,
    idle_settings,
    idle_steps,
    still_bodies,
)
from experiments.evaluate_policy.settings.evaluation_settings import AUTO, EvaluationSettings
from experiments.runs.command_line.checks import UsageError, named
from experiments.runs.command_line.computing import resolve_device, torch_dtype
from experiments.runs.command_line.settings import check_effects, idle_flags
from neural_tdc.baselines.method import Method
from neural_tdc.learning.averaging import Averaging, averaging
from neural_tdc.learning.optimisers import PartOptimizers, part_optimizers
from neural_tdc.learning.sampling import Sampling, in_segments
from neural_tdc.types import MakeBody

GYMNASIUM_STEPS = 20_000


class EvaluationPlan(NamedTuple):
    """What checked settings stand for.

    problem:    a finite problem, a Gymnasium one, or a log
    rules:      {name as given: rule}, without auto and methods
    methods:    {name as given: method that learns from all transitions at once}
    runs:       of every rule; one for auto alone
    make_body:  None for given features
    width:      the number of features, learned or given
    idle:       {setting: a line that says so} where it was changed without effect
    idle_steps: a warning for each step size that was given and moves nothing
    """

    problem: Problem
    rules: dict[str, Any]
    methods: dict[str, Method]
    runs: int
    make_body: MakeBody | None
    width: int
    steps: int
    step_sizes: tuple[float, float, float]
    optimizers: PartOptimizers
    averaging: Averaging
    sampling: Sampling
    device: torch.device
    dtype: torch.dtype
    idle: dict[str, str]
    idle_steps: tuple[str, ...]
    warnings: tuple[str, ...]

    def task(
        self,
        settings: EvaluationSettings,
        updates: int = 0,
        on_progress: OnTaskProgress = no_progress,
        meanwhile: Callable[[], object] | None = None,
    ) -> Task:
        """Make the problem ready, with a stream per run that is enough for its updates.

        updates: those of the first run where the stream must not grow with a resumed one's
        meanwhile: called once while other processes collect experience, if they do
        """
        resample = settings.resample != "none" and bool(self.rules or self.methods)
        # Draws of a longer stream would be others.
        kept = self.sampling.depends_on_length or resample
        needed = updates if updates and kept else self.steps
        transitions = self.sampling.transitions(needed)
        common: dict[str, Any] = {
            "runs": 1 if resample else self.runs,
            "transitions": transitions,
            "seed": settings.seed,
            # Where its errors are measured; what is learned from is moved from there.
            "device": torch.device("cpu") if settings.measure_on == "host" else self.device,
            "dtype": self.dtype,
        }
        task = self._made_task(settings, common, on_progress, meanwhile)
        if not resample:
            return task
        with named(f"{experience_flags(settings)} --resample {settings.resample}"):
            return resampled(task, self.runs, settings.seed)

    def _made_task(
        self,
        settings: EvaluationSettings,
        common: dict[str, Any],
        on_progress: OnTaskProgress,
        meanwhile: Callable[[], object] | None,
    ) -> Task:
        """Make the problem ready as it is, without resampling."""
        of_actions = settings.values == "q"
        if isinstance(self.problem, FiniteMDP):
            make = action_chain_task if of_actions else chain_task
            return make(self.problem, given=settings.features == "given", **common)
        if isinstance(self.problem, LoggedProblem):
            if not self.sampling.ordered:
                common["transitions"] = 0
            with named(settings.data_flags):
                task = logged_task(
                    self.problem,
                    given=settings.features == "given",
                    fraction=settings.held_out_fraction,
                    of_actions=of_actions,
                    **common,
                )
            learned, segment = task.experience.transitions.reward.shape[1], settings.sequence_length
            if self.rules and in_segments(settings.scheme) and segment > learned:
                raise UsageError(
                    f"--sequence-length {segment} is more than the {learned} transitions of "
                    f"{settings.data_flags} that rules learn from"
                )
            # Auto alone has no held-out part that it does not learn from.
            alone = not (self.rules or self.methods)
            return task._replace(notes=self.problem.notes) if alone else task
        with named(problem_flags(settings)):
            return control_task(
                self.problem,
                states=settings.truth_states,
                rollouts=settings.truth_rollouts,
                held_out_size=settings.held_out,
                of_actions=of_actions,
                on_progress=on_progress,
                meanwhile=meanwhile,
                **common,
            )

    def chosen(self, settings: EvaluationSettings) -> dict[str, Any]:
        """Return the values of the settings that may be left out, as they were chosen."""
        of_mlp = settings.body == "mlp" and self.make_body is not None
        return {
            # No settings, but a run goes on with the same data and policies only.
            **({} if settings.data is None else {"data_sha256": content(settings.data)}),
            **policy_contents(settings.policy, settings.behaviour),
            "steps": self.steps,
            "runs": self.runs,
            "auxiliary_step": self.step_sizes[2],
            "optimizer": [*settings.optimizer] * (3 // len(settings.optimizer)),
            "gamma": self.problem.discount,
            "hidden": [*HIDDEN] if of_mlp and settings.hidden is None else settings.hidden,
            "width": self.width,
            "device": self.device.type,
        }


def evaluation_plan(
    settings: EvaluationSettings, *, effects: bool = True, problem: Problem | None = None
) -> EvaluationPlan:
    """Make what the settings stand for, and try it; UsageError or ValueError in one line.

    effects: whether settings without effect are refused; they are in the plan all the same
    problem: of a plan whose settings differ in rules, step sizes and sampling alone: a log is not
        read again for it
    """
    chosen = {name: rule_of(name, settings) for name in settings.rule if name != AUTO}
    methods = {name: each for name, each in chosen.items() if isinstance(each, Method)}
    rules = {name: each for name, each in chosen.items() if name not in methods}
    runs = 1 if settings.rule == (AUTO,) else settings.runs
    device = resolve_device(settings.device, deterministic=settings.deterministic)
    if problem is None:
        given = settings.problem or ""
        problem = made_problem(settings, given) if settings.data is None else logged(settings)
    finite = isinstance(problem, FiniteMDP)
    steps = settings.steps or (problem.steps if isinstance(problem, FiniteMDP) else GYMNASIUM_STEPS)
    if settings.features == "given" and isinstance(problem, ControlProblem):
        raise UsageError(
            f"--features given: {problem.name} has no given features; use --features neural"
        )
    if methods and settings.values == "q" and rules:
        raise UsageError(
            f"--values q with --rule {' '.join(methods)}: methods learn values of states"
        )
    heads = heads_for(settings, problem)
    check_rules(settings, rules)
    check_average(settings, steps)
    weighted = isinstance(problem, LoggedProblem) and problem.ratios != ""
    idle = idle_settings(settings, rules, methods, finite, weighted)
    if effects:
        check_effects(settings, idle)
    warnings = [*still_bodies(rules), *problem_hints(settings)]
    make_body, width = None, 0
    if isinstance(problem, FiniteMDP):
        width = problem.features.shape[1]
    elif isinstance(problem, LoggedProblem):
        width = problem.shape[0]
        warnings += runs_alike(settings, rules)
    if not rules:
        check_run_memory(replace(settings, runs=runs), problem, None, steps, device)
    elif settings.features == "neural":
        make_body = chosen_body(settings, problem)
        check_run_memory(settings, problem, make_body, steps, device, heads)
        width = tried_width(make_body, problem, settings)
        if isinstance(problem, FiniteMDP) and width >= len(problem.start):
            warnings.append(
                f"--width {width}: {width} features span the {len(problem.start)} states of "
                f"{problem.name}, so that any value is exact and learning them means little; "
                f"{problem.width} is half the states"
            )
    else:
        check_run_memory(settings, problem, None, steps, device, heads)
    auxiliary = settings.head_step if settings.auxiliary_step is None else settings.auxiliary_step
    return EvaluationPlan(
        problem=problem,
        rules=rules,
        methods=methods,
        runs=runs,
        make_body=make_body,
        width=width,
        steps=steps,
        step_sizes=(settings.body_step, settings.head_step, auxiliary),
        optimizers=part_optimizers(settings.optimizer, settings.max_grad_norm),
        averaging=averaging(settings.average, settings.average_after),
        sampling=settings.scheme,
        device=device,
        dtype=torch_dtype(settings.dtype),
        idle=idle_flags(settings, idle),
        idle_steps=tuple(idle_steps(settings, rules)),
        warnings=tuple(warnings),
    )
