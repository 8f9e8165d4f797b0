"""The body of the settings, tried before any long work."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from envs.control.collection import collect
from envs.finite.finite_mdp import FiniteMDP
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.parts.problems import Problem, problem_flags
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError, load_part, named
from experiments.runs.command_line.computing import torch_dtype
from neural_tdc.networks.bodies import BODIES, mlp
from neural_tdc.networks.validation import check_body
from neural_tdc.types import MakeBody

GYMNASIUM_WIDTH = 16
HIDDEN = (32,)


def chosen_body(settings: EvaluationSettings, problem: Problem) -> MakeBody:
    """Return the function that makes the body of the settings; UsageError where there is none."""
    usual = problem.width if isinstance(problem, FiniteMDP) else GYMNASIUM_WIDTH
    width = settings.width or usual
    if ":" in settings.body:
        return load_part(settings.body, "--body")
    if settings.body != "mlp":
        make: Callable[..., Any] = BODIES[settings.body]
        return partial(make, **({"features": settings.width} if settings.width else {}))
    return partial(
        mlp,
        features=width,
        hidden=HIDDEN if settings.hidden is None else tuple(settings.hidden),
        activation=settings.activation,
        constant=settings.constant_feature,
        layer_norm=settings.layer_norm,
    )


def tried_width(make_body: MakeBody, problem: Problem, settings: EvaluationSettings) -> int:
    """Try the body on a few observations, before any long work; return its number of features."""
    if isinstance(problem, FiniteMDP):
        example = problem.observation[:1].repeat(3, 1)
    elif isinstance(problem, LoggedProblem):
        example = problem.plain(slice(3)).observation[0]
    else:
        with named(problem_flags(settings)):
            example = collect(problem, 1, 3, 0).observation[0]
    shape = tuple(example.shape[1:])
    with named(f"--body {settings.body} for observations of shape {shape}"):
        module = make_body(shape)
        if not isinstance(module, torch.nn.Module):
            raise UsageError(
                f"--body {settings.body} returned a {type(module).__name__}; it must return a "
                "torch.nn.Module"
            )
        if not any(True for _ in module.parameters()):
            raise UsageError(
                f"--body {settings.body}: {type(module).__name__} has no parameters to learn"
            )
        try:
            return check_body(module, example.to(torch_dtype(settings.dtype)))
        except ValueError as error:
            said = str(error).removeprefix("body: ")
            raise UsageError(f"--body {settings.body}: {said}") from error
