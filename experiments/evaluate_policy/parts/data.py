"""Policy evaluation from logged data: what --data stands for, and what it leaves without effect."""

import hashlib
import math
from pathlib import Path
from typing import Any

from envs.logs.logged_problem import LoggedProblem, logged_problem
from experiments.evaluate_policy.parts.policies import given_policy
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError
from neural_tdc.learning.sampling import SAMPLINGS

DISCOUNT = 0.99


def logged(settings: EvaluationSettings, data: str) -> LoggedProblem:
    """Read the log; UsageError in one line for whatever is wrong with it or with the policy."""
    policy = None
    if settings.policy is not None:
        policy = given_policy(settings.policy, "--policy")
        if isinstance(policy, str):
            raise UsageError(f"--policy {policy!r}: with --data give module:function or a file")
    if settings.values == "q" and policy is None:
        raise UsageError(
            f"--values q with --data {data} needs --policy: the next action is expected under it"
        )
    gamma = DISCOUNT if settings.gamma is None else settings.gamma
    try:
        limit = math.inf if settings.ratio_limit is None else settings.ratio_limit
        ratios = settings.values == "v" or settings.lambda_ > 0
        problem = logged_problem(data, gamma, policy, limit, ratios=ratios)
    except ValueError as error:
        raise UsageError(f"--data {' '.join(str(error).split())}") from error
    shape = problem.transition.observation.shape[2:]
    if settings.features == "given" and len(shape) != 1:
        raise UsageError(
            f"--features given: the observations of {data} have the shape {list(shape)}, and "
            "given features are vectors; use --features neural"
        )
    return problem


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


def content(data: str) -> str:
    """Return what tells one file from another of the same name: its SHA-256."""
    digest = hashlib.sha256()
    with Path(data).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
