"""What a step-size study runs: every rule in every panel, with its configurations."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from agents.task import known_parts
from envs.finite.finite_mdp import FiniteMDP
from experiments.evaluate_policy.parts.plan import EvaluationPlan, evaluation_plan
from experiments.evaluate_policy.parts.problems import Problem
from experiments.evaluate_policy.settings.data_settings import DataSettings
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.evaluate_policy.settings.learning_settings import LearningSettings
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import Idle, idle_flags, setting_fields
from experiments.runs.results.statistics import summary_key
from experiments.sweep.running.configurations import (
    Configuration,
    configurations,
    control_configurations,
    frozen_rule,
    learning_body,
    with_auxiliary,
)
from experiments.sweep.settings.sweep_settings import FROZEN_BODY, SweepSettings, selectable
from neural_tdc.metrics.registry import selectable_metrics

# Transitions of a run that a control holds at once, with all their features.
LONGEST = 100_000


# What a log and the policies that it is read with depend on.
_OF_LOG = (
    *("data", "columns", "cumulant", "gamma", "policy", "behaviour", "ratio_limit", "values"),
    *("lambda_", "features"),
)
# The last log that was read, by these settings.
_read: dict[str, Problem] = {}


def shared_plan(settings: EvaluationSettings, problem: Problem | None = None) -> EvaluationPlan:
    """Return the plan of one rule; a process reads a log once for all rules, seeds and schemes.

    problem: of a plan whose settings differ in these alone
    """
    if settings.data is None:
        return evaluation_plan(settings, effects=False, problem=problem)
    key = repr([getattr(settings, name) for name in _OF_LOG])
    checked = evaluation_plan(settings, effects=False, problem=_read.get(key, problem))
    if key not in _read:
        _read.clear()
        _read[key] = checked.problem
    return checked


class Cell(NamedTuple):
    """One rule in one panel of the study, with all its configurations.

    rule:     as it was asked for, or the name of a control
    learned:  what learns: the same, its body under a solved head, or the rule that is frozen
    settings: of policy evaluation, with the step sizes of the first configuration
    """

    problem: str
    sampling: str
    rule: str
    learned: str
    settings: EvaluationSettings
    plan: EvaluationPlan
    configurations: tuple[Configuration, ...]

    @property
    def control(self) -> bool:
        """Return whether it is a control, with which no rule is studied."""
        return bool(self.plan.methods) or self.rule == FROZEN_BODY


def check_selection(settings: SweepSettings, problem: str, checked: EvaluationPlan) -> None:
    """Raise UsageError where a problem does not measure what its steps are to be selected by."""
    known = known_parts(checked.problem, states=settings.truth_states)
    lacking = {
        summary_key(metric.key): metric.lacks(known)
        for metric in selectable_metrics()
        if metric.lacks(known)
    }
    for select in settings.select:
        name = select.partition("_")[2]
        if name in lacking:
            allowed = [each for each in selectable() if each.partition("_")[2] not in lacking]
            raise UsageError(
                f"--select {select}: {problem} does not measure it, it needs "
                f"{' and '.join(lacking[name])}; give one of {', '.join(allowed)}"
            )


def _evaluation(
    settings: SweepSettings, problem: str, sampling: str, learned: str, first: Configuration
) -> EvaluationSettings:
    given = (*fields(LearningSettings), *fields(DataSettings))
    shared = {field.name: getattr(settings, field.name) for field in given}
    shared |= {"out": None, "resume": False, "overwrite": False}
    return EvaluationSettings(
        **shared,
        problem=problem if settings.data is None else None,
        rule=(learned,),
        sampling=sampling,
        body_step=first.body_step if settings.features == "neural" else 0.001,
        head_step=first.head_step,
        auxiliary_step=first.auxiliary_step,
        lambda_=settings.lambda_,
    )


def cells(settings: Mapping[str, SweepSettings]) -> tuple[list[Cell], list[str]]:
    """Return every rule in every panel with its configurations, and a line for what is left out.

    settings: of each problem. All is checked, and tried where that costs little.

    Raises UsageError for a setting that was changed and has no effect on any cell.
    """
    result, notes = [], []
    # Files may have changed since the last study of this process.
    _read.clear()
    for problem, own in settings.items():
        made: Problem | None = None
        for sampling in own.sampling:
            wanted = []
            for rule in own.rule:
                by_learned, dropped = configurations(rule, own)
                notes += [f"{problem}, {sampling}: {line}" for line in dropped]
                wanted += [(rule, learned, several) for learned, several in by_learned.items()]
            for rule, learned, several in (*wanted, *control_configurations(own)):
                evaluation = _evaluation(own, problem, sampling, learned, several[0])
                checked = shared_plan(evaluation, made)
                made = checked.problem
                _check_width(checked, problem)
                check_selection(own, problem, checked)
                if checked.methods and checked.sampling.transitions(checked.steps) > LONGEST:
                    notes.append(
                        f"control {rule} left out: it holds at most {LONGEST:,} transitions"
                    )
                    continue
                evaluation = replace(evaluation, steps=checked.steps)
                result.append(
                    Cell(problem, sampling, rule, learned, evaluation, checked, tuple(several))
                )
    _check_effects(settings, [cell for cell in result if not cell.control])
    return result, list(dict.fromkeys(notes))


def _idle_grids(settings: SweepSettings, rules: Sequence[str]) -> list[Idle]:
    """Return the grids that none of the rules goes through, and flags of the other engine."""
    learning = [rule for rule in rules if learning_body(rule, settings)]
    rows = (
        (not learning, ("body_steps", "ratios"), "where no body learns: give --head-steps"),
        (
            len(learning) == len(rules) and frozen_rule(settings) is None,
            ("head_steps",),
            "where all bodies learn: the head steps are --ratios times --body-steps",
        ),
        (
            not any(map(with_auxiliary, rules)),
            ("auxiliary_ratios",),
            f"with --rule {' '.join(rules)}: no rule keeps an auxiliary vector",
        ),
        (settings.engine == "ray", ("workers",), "with --engine ray"),
        (settings.engine != "ray", ("address",), f"with --engine {settings.engine}, only with ray"),
    )
    return [Idle(names, why) for holds, names, why in rows if holds]


def _check_effects(settings: Mapping[str, SweepSettings], cells: Sequence[Cell]) -> None:
    """Raise UsageError for a setting that was changed and that no cell heeds."""
    found = [
        {**idle_flags(own, _idle_grids(own, own.rule)), **cell.plan.idle}
        for cell in cells
        for own in (settings[cell.problem],)
    ]
    defaults = setting_fields(SweepSettings)
    for line_of in found:
        for name, line in line_of.items():
            heeded = any(
                name not in other
                and getattr(settings[cell.problem], name) != defaults[name].default
                for other, cell in zip(found, cells)
            )
            if not heeded:
                raise UsageError(line)


def _check_width(checked: EvaluationPlan, problem: str) -> None:
    mdp = checked.problem
    if checked.make_body is None or not isinstance(mdp, FiniteMDP):
        return
    if checked.width >= len(mdp.start):
        raise UsageError(
            f"--width {checked.width}: so many features span the {len(mdp.start)} states of "
            f"{problem}, and a study of learning them would mean nothing; give at most "
            f"{len(mdp.start) - 1}, or {mdp.width}, half the states"
        )
