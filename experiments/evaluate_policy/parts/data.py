"""Policy evaluation from logged data: what --data stands for, and what it leaves without effect."""

import math
from pathlib import Path
from typing import Any

from envs.logs.columns import NotInFileError
from envs.logs.logged_problem import LoggedProblem, logged_problem
from envs.logs.propensities import ESTIMATE
from envs.logs.reading import Reading, source_files
from experiments.evaluate_policy.parts.policies import given_policy
from experiments.evaluate_policy.settings.data_settings import named_column
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError
from experiments.runs.folder.files import digest_of_files
from neural_tdc.learning.sampling import SAMPLINGS


def logged(settings: EvaluationSettings) -> LoggedProblem:
    """Read the log; UsageError in one line for whatever is wrong with it or with the policy."""
    policy, behaviour = (
        _policy(value, flag)
        for value, flag in ((settings.policy, "--policy"), (settings.behaviour, "--behaviour"))
    )
    if settings.values == "q" and policy is None:
        raise UsageError(
            f"--values q with {settings.data_flags} needs --policy: the next action is expected "
            "under it"
        )
    named = dict(map(named_column, settings.columns))
    limit = math.inf if settings.ratio_limit is None else settings.ratio_limit
    try:
        problem = logged_problem(
            settings.data or (),
            settings.gamma,
            policy,
            limit,
            behaviour=behaviour,
            ratios=settings.values == "v" or settings.lambda_ > 0,
            reading=Reading(named, settings.cumulant),
        )
    except ValueError as error:
        said = f"--data {' '.join(str(error).split())}"
        if isinstance(error, NotInFileError) and error.guesses:
            pairs = " ".join(f"{name}={guess}" for name, guess in error.guesses.items())
            said += f" If so, give --columns {pairs}"
        elif "no array behaviour_probability" in said:
            said += f"; --behaviour {ESTIMATE} estimates them, or names the policy that acted"
        raise UsageError(said) from error
    shape = problem.shape
    if settings.features == "given" and len(shape) != 1:
        raise UsageError(
            f"--features given: the observations of {problem.source} have the shape {list(shape)}, "
            "and given features are vectors; use --features neural"
        )
    return problem


def _policy(value: str | None, flag: str) -> Any:
    policy = given_policy(value, flag)
    if flag == "--behaviour" and policy == ESTIMATE:
        return policy
    if isinstance(policy, str):
        estimate = f", or {ESTIMATE}" if flag == "--behaviour" else ""
        raise UsageError(f"{flag} {policy!r}: with --data give module:function or a file{estimate}")
    return policy


def runs_alike(settings: EvaluationSettings, rules: dict[str, Any]) -> list[str]:
    """Return a warning where nothing tells the runs of a log apart."""
    if (
        settings.runs == 1
        or settings.resample != "none"
        or settings.features != "given"
        or not SAMPLINGS[settings.sampling].ordered
    ):
        return []
    # Features of their own are drawn for every run.
    if any("psi" in rule.settings for rule in rules.values()):
        return []
    return [
        f"--runs {settings.runs}: with given features all runs learn the same from one log in its "
        "order; --runs 1 is enough, or --sampling iid or replay makes them differ"
    ]


def content(sources: tuple[str, ...]) -> str:
    """Return what tells data from others of the same names: the SHA-256 of the files."""
    return digest_of_files(Path(file) for source in sources for file in source_files(source))
