"""The problems that policy evaluation is asked for by name, with the policies that go with them."""

import math
from functools import partial
from typing import Any

import gymnasium
import torch

from envs.control.environments import registered_name
from envs.control.policies import policy_name, probabilities
from envs.control.policy_modes import settle
from envs.control.problems import CONTROL_PROBLEMS, ControlProblem, control_problem
from envs.finite.finite_mdp import FiniteMDP, checked_mdp
from envs.finite.standard_problems import FINITE_PROBLEMS, is_finite_problem
from envs.finite.standard_problems import problem as standard_problem
from envs.finite.toy_text import toy_text_problem
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.parts.policies import given_policy, is_dqn_checkpoint
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError, load_part, named, suggestion
from experiments.train_dqn.policy import checkpoint_environment

# With its one parameter and a head that does not learn the spiral is the problem of its source.
SPIRAL_BODY = "envs.finite.counterexamples:spiral_body"

Problem = FiniteMDP | ControlProblem | LoggedProblem


def problem_flags(settings: EvaluationSettings) -> str:
    """Return the flags that define the problem, as they were given."""
    given = (
        ("--problem", settings.problem),
        ("--policy", settings.policy),
        ("--behaviour", settings.behaviour),
        ("--gamma", None if settings.gamma is None else f"{settings.gamma:g}"),
    )
    return " ".join(f"{flag} {value}" for flag, value in given if value is not None)


def experience_flags(settings: EvaluationSettings) -> str:
    """Return the flags that say where transitions come from: the log, else the problem."""
    return settings.data_flags or problem_flags(settings)


def problem_hints(settings: EvaluationSettings) -> list[str]:
    """Return a warning where a problem shows nothing without flags that are not given."""
    if settings.problem != "spiral" or (settings.body == SPIRAL_BODY and settings.head_step == 0):
        return []
    return [
        f"--problem spiral: TD diverges on it with --body {SPIRAL_BODY} --head-step 0; with other "
        "settings its values only go to 0"
    ]


def made_problem(settings: EvaluationSettings, name: str) -> FiniteMDP | ControlProblem:
    """Make the problem of a name, with its policies; UsageError in one line for what cannot be."""
    _, colon, function = name.partition(":")
    made: Any = None
    # module:ID, with the version or namespace that Gymnasium's names have, is Gymnasium's business.
    if colon and not {"-", "/"} & set(function):
        made = load_part(name, "--problem")
        with named(f"--problem {name}"):
            result = made()
            if isinstance(result, FiniteMDP):
                result = checked_mdp(result)
            elif isinstance(result, gymnasium.Env):
                result.close()
            else:
                raise UsageError(
                    f"--problem {name} returned a {type(result).__name__}; it must return a "
                    "FiniteMDP or a gymnasium.Env"
                )
        if isinstance(result, FiniteMDP):
            return _with_policies(result, settings)
    elif is_finite_problem(name):
        with named(f"--problem {name}"):
            chain = standard_problem(name)
        return _with_policies(chain, settings)
    if not colon:
        with named(f"--problem {name}"):
            registered_name(name)
    known = [*FINITE_PROBLEMS, *CONTROL_PROBLEMS, *gymnasium.registry]
    if not colon and "/" not in name and name not in known:
        raise UsageError(f"--problem {name!r} is not known{suggestion(name, known)}; see --help")
    policy = given_policy(settings.policy, "--policy")
    # One policy given twice is on-policy, a file too.
    same = settings.behaviour == settings.policy
    behaviour = policy if same else given_policy(settings.behaviour, "--behaviour")
    gamma = settings.gamma
    notes: tuple[str, ...] = ()
    for value in (settings.policy, settings.behaviour):
        # Games are shown to a trained policy as they were in training.
        if made is None and is_dqn_checkpoint(value):
            with named(problem_flags(settings)):
                made, trained_gamma, notes = checkpoint_environment(name, value or "")
            gamma = trained_gamma if gamma is None and value == settings.policy else gamma
    with named(problem_flags(settings)):
        limit = math.inf if settings.ratio_limit is None else settings.ratio_limit
        problem = control_problem(made or name, policy, behaviour, gamma, limit)
    problem = problem._replace(notes=(*problem.notes, *notes))
    return _from_its_table(problem, settings) or problem


def _from_its_table(problem: ControlProblem, settings: EvaluationSettings) -> FiniteMDP | None:
    """Return an environment as a finite problem where it carries a table that can be used."""
    environment = problem.make()
    try:
        mdp = toy_text_problem(problem.name, environment)
        if mdp is None:
            return None
        mdp = _with_policies(mdp._replace(notes=(*problem.notes, *mdp.notes)), settings)
        # As in every environment, the evaluated policy acts if no other is given.
        return mdp if settings.behaviour else checked_mdp(mdp._replace(behaviour=mdp.target))
    except ValueError:
        # A policy that never leaves one of several loops: only a time limit can.
        return None
    finally:
        environment.close()


def _with_policies(mdp: FiniteMDP, settings: EvaluationSettings) -> FiniteMDP:
    """Put the user's policies and discount into a finite problem and check it again."""
    changes: dict[str, Any] = {}
    for flag, field, value in (
        ("--policy", "target", settings.policy),
        ("--behaviour", "behaviour", settings.behaviour),
    ):
        if value is None:
            continue
        if value == "uniform":
            changes[field] = torch.full_like(mdp.target, 1 / mdp.target.shape[1])
        elif callable(policy := given_policy(value, flag)):
            with named(f"{flag} {value}"):
                # In float32, as policies see observations of Gymnasium problems.
                seen = mdp.observation.float().numpy()
                ask = partial(probabilities, policy, seen, mdp.target.shape[1])
                changes["notes"] = (*changes.get("notes", mdp.notes), *settle(policy, ask))
                rows = ask()
            changes[field] = torch.from_numpy(rows)
        else:
            raise UsageError(
                f"{flag} {value!r}: on a finite problem give uniform, module:function or a file"
            )
    if settings.gamma is not None:
        changes["discount"] = settings.gamma
    with named(problem_flags(settings)):
        return checked_mdp(mdp._replace(**changes))


def policies_in_words(problem: Problem) -> str:
    """Return one line that says which policy is evaluated and which one acts."""
    if isinstance(problem, FiniteMDP):
        same = torch.equal(problem.target, problem.behaviour)
        return "on-policy" if same else "off-policy"
    if isinstance(problem, LoggedProblem):
        if problem.target is None:
            return "off-policy, ratios as logged" if problem.ratios else "on-policy, as logged"
        return f"off-policy, target {policy_name(problem.target)}, behaviour {problem.behaviour}"
    target, behaviour = policy_name(problem.target), policy_name(problem.behaviour)
    if problem.target is problem.behaviour:
        return f"on-policy, {target}"
    return f"off-policy, target {target}, behaviour {behaviour}"
