"""What a step-size study runs: its configurations, and the shards that they are run in."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from agents.policy_evaluation import known_parts
from envs.finite.finite_mdp import FiniteMDP
from experiments.evaluate_policy import settings as evaluation_settings
from experiments.evaluate_policy.build import Plan, plan
from experiments.evaluate_policy.learning_settings import LearningSettings
from experiments.runs.checks import (
    UsageError,
    check_choice,
    check_integer,
    check_positive,
    check_positive_integer,
    check_resume_or_overwrite,
    check_several,
)
from experiments.runs.statistics import summary_key
from experiments.sweep.grids import grid
from experiments.sweep.settings import Settings
from neural_tdc.learning.compilation import compiler_available
from neural_tdc.learning.sampling import SAMPLINGS
from neural_tdc.metrics.registry import selectable_metrics
from neural_tdc.rules.registry import RULES

ENGINES = ("local", "ray")
# Run-steps, or updates, of a shard from which on it wins back the time of its compilation.
WORTH_COMPILING = 1_000_000
MANY_UPDATES = 4_000


class Configuration(NamedTuple):
    """One set of step sizes of a rule.

    ratio:           β/α; infinite where the head is solved, NaN where no body learns
    auxiliary_ratio: η/β; NaN where no auxiliary vector is kept
    """

    ratio: float
    auxiliary_ratio: float
    body_step: float
    head_step: float
    auxiliary_step: float


class Cell(NamedTuple):
    """One rule in one panel of the study, with all its configurations.

    rule:     as it was asked for
    learned:  what learns: the same, or its body under a solved head
    settings: of policy evaluation, with the step sizes of the first configuration
    """

    problem: str
    sampling: str
    rule: str
    learned: str
    settings: evaluation_settings.Settings
    plan: Plan
    configurations: tuple[Configuration, ...]


class Shard(NamedTuple):
    """A part of a study that is run at once, in plain values: any engine may send it anywhere.

    name:           of its file
    settings:       of policy evaluation, as a dict
    configurations: [configuration] (body, head, auxiliary) step sizes
    """

    name: str
    settings: dict[str, Any]
    configurations: list[tuple[float, float, float]]
    threads: int
    compiled: bool
    curves: bool

    @property
    def run_steps(self) -> int:
        """Return the updates of all its runs together."""
        return len(self.configurations) * self.settings["runs"] * self.settings["steps"]


def check_values(settings: Settings) -> None:
    """Raise UsageError for a value of the study's own flags that is not allowed."""
    check_several("--problem", settings.problem)
    if not settings.rule:
        raise UsageError("--rule must be given, or --study with a file that gives it")
    check_several("--rule", settings.rule)
    for sampling in check_several("--sampling", settings.sampling):
        check_choice("--sampling", sampling, SAMPLINGS)
    check_choice("--engine", settings.engine, ENGINES)
    check_integer("--seed", settings.seed, 0)
    check_positive_integer("--threads", settings.threads)
    if settings.fresh_runs is not None:
        check_integer("--fresh-runs", settings.fresh_runs, 0)
    if settings.workers is not None:
        check_positive_integer("--workers", settings.workers)
    if settings.memory is not None:
        check_positive("--memory", settings.memory)
    for select in check_several("--select", settings.select):
        check_choice("--select", select, selectable())
    if settings.baseline is not None:
        check_choice("--baseline", settings.baseline, settings.rule)
    if settings.address is not None and settings.engine != "ray":
        raise UsageError(f"--address {settings.address} needs --engine ray, not {settings.engine}")
    if settings.workers is not None and settings.engine == "ray":
        raise UsageError(f"--workers {settings.workers} has no effect with --engine ray")
    check_resume_or_overwrite(settings.resume, settings.overwrite)


def selectable() -> list[str]:
    """Return what --select allows: the mean over a run or the end of each error."""
    names = [summary_key(metric.key) for metric in selectable_metrics()]
    return [f"{when}_{name}" for when in ("auc", "final") for name in names]


def check_selection(settings: Settings, problem: str, checked: Plan) -> None:
    """Raise UsageError where a problem does not measure what its steps are to be selected by."""
    known = known_parts(checked.problem)
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


def solved(rule: str) -> str | None:
    """Return the name of a rule's body under an LSTD head, None where there is no such rule."""
    return None if ":" in rule else RULES[rule].under_best_response


def _keeps_auxiliary(rule: str) -> bool:
    return ":" in rule or bool(RULES[rule].auxiliaries)


def _learns_body(rule: str, settings: Settings) -> bool:
    return settings.features == "neural" and (":" in rule or RULES[rule].learns_body)


def configurations(
    rule: str, settings: Settings
) -> tuple[dict[str, list[Configuration]], list[str]]:
    """Return {what learns: configurations} of a rule, and a line for all that had to be left out.

    Raises UsageError for a grid that is empty or has a value twice.
    """
    auxiliary = grid("--auxiliary-ratios", settings.auxiliary_ratios)
    if not _keeps_auxiliary(rule):
        auxiliary = [math.nan]
    if not _learns_body(rule, settings):
        steps = grid("--head-steps", settings.head_steps)
        frozen = [
            Configuration(math.nan, eta, 0.0, beta, beta * (1.0 if math.isnan(eta) else eta))
            for eta in auxiliary
            for beta in steps
        ]
        return {rule: frozen}, []
    body_steps = grid("--body-steps", settings.body_steps)
    ratios = grid("--ratios", settings.ratios, infinite=True)
    finite = [ratio for ratio in ratios if ratio != math.inf]
    best_response = solved(rule)
    dropped = []
    if rule == best_response:
        ratios = [math.inf]
    elif math.inf in ratios and best_response is None:
        dropped = [f"{rule}: ratio inf left out, its head is not one that can be solved"]
        ratios = finite
    result: dict[str, list[Configuration]] = {}
    for ratio in ratios:
        learned = rule if ratio != math.inf else best_response or rule
        etas = auxiliary if _keeps_auxiliary(learned) else [math.nan]
        # What a solved head's auxiliary vector goes by.
        factor = ratio if ratio != math.inf else max(finite, default=1.0)
        for eta in etas:
            for alpha in body_steps:
                beta = alpha * factor
                moved = beta * (1.0 if math.isnan(eta) else eta)
                head = 1.0 if ratio == math.inf else beta
                result.setdefault(learned, []).append(Configuration(ratio, eta, alpha, head, moved))
    return result, dropped


def _evaluation(
    settings: Settings, problem: str, sampling: str, learned: str, first: Configuration
) -> evaluation_settings.Settings:
    shared = {field.name: getattr(settings, field.name) for field in fields(LearningSettings)}
    shared |= {"out": None, "resume": False, "overwrite": False}
    return evaluation_settings.Settings(
        **shared,
        problem=problem,
        rule=[learned],
        sampling=sampling,
        body_step=first.body_step if settings.features == "neural" else 0.001,
        head_step=first.head_step,
        auxiliary_step=first.auxiliary_step,
    )


def cells(settings: Mapping[str, Settings]) -> tuple[list[Cell], list[str]]:
    """Return every rule in every panel with its configurations, and a line for what is left out.

    settings: of each problem. All is checked, and tried where that costs little.
    """
    result, notes = [], []
    for problem, own in settings.items():
        for sampling in own.sampling:
            for rule in own.rule:
                by_learned, dropped = configurations(rule, own)
                notes += [f"{problem}, {sampling}: {line}" for line in dropped]
                for learned, several in by_learned.items():
                    evaluation = _evaluation(own, problem, sampling, learned, several[0])
                    checked = plan(evaluation)
                    _check_width(checked, problem)
                    check_selection(own, problem, checked)
                    evaluation.steps = checked.steps
                    result.append(
                        Cell(problem, sampling, rule, learned, evaluation, checked, tuple(several))
                    )
    return result, list(dict.fromkeys(notes))


def _check_width(checked: Plan, problem: str) -> None:
    mdp = checked.problem
    if checked.make_body is None or not isinstance(mdp, FiniteMDP):
        return
    if checked.width >= len(mdp.start):
        raise UsageError(
            f"--width {checked.width}: so many features span the {len(mdp.start)} states of "
            f"{problem}, and a study of learning them would mean nothing; give at most "
            f"{len(mdp.start) - 1}, or {mdp.width}, half the states"
        )


def shards(
    cell: Cell, several: Sequence[Configuration], most: int, settings: Settings, *, fresh: bool
) -> list[Shard]:
    """Cut configurations of a cell into shards of at most `most` of them, of about equal size.

    fresh: whether they run on the fresh seeds, with their whole curves kept
    """
    evaluation = asdict(cell.settings)
    if fresh:
        runs = settings.runs if settings.fresh_runs is None else settings.fresh_runs
        evaluation |= {"seed": settings.seed + 1, "runs": runs}
    count = -(-len(several) // most)
    ends = [index * len(several) // count for index in range(count + 1)]
    return [
        _shard(evaluation, several[begin:end], cell, settings.threads, fresh)
        for begin, end in itertools.pairwise(ends)
    ]


def _shard(
    evaluation: dict[str, Any],
    several: Iterable[Configuration],
    cell: Cell,
    threads: int,
    curves: bool,
) -> Shard:
    sizes = [(each.body_step, each.head_step, each.auxiliary_step) for each in several]
    work = len(sizes) * evaluation["runs"] * evaluation["steps"]
    choice = evaluation["compile"]
    large = work >= WORTH_COMPILING or evaluation["steps"] >= MANY_UPDATES
    worth = choice == "on" or (choice == "auto" and large)
    compiled = worth and compiler_available(cell.plan.device)
    # Where it runs, and what it was called by, changes nothing of what comes out.
    idle = ("out", "device", "preset")
    told = {name: value for name, value in evaluation.items() if name not in idle}
    content = json.dumps([told, sizes, threads, compiled, curves], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:20]
    return Shard(name, evaluation, sizes, threads, compiled, curves)
