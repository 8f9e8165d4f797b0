"""Values of actions in policy evaluation: what --values q needs, and what is saved of it."""

from typing import Any

import torch

from agents.task import Task
from agents.task_actions import control_actions, logged_actions
from envs.control.actions import BoxActions
from envs.control.problems import ControlProblem
from envs.finite.finite_mdp import FiniteMDP
from experiments.evaluate_policy.parts.memory import problem_shape
from experiments.evaluate_policy.parts.policies import is_file, policy_maker
from experiments.evaluate_policy.parts.problems import Problem
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.runs.command_line.checks import UsageError
from neural_tdc.action_values.saved import action_record


def heads_for(settings: EvaluationSettings, problem: Problem) -> int:
    """Return the number of heads: one for V, one for each action for q; one if continuous.

    Raises UsageError in one line for a problem that has no actions to tell apart.
    """
    if settings.values == "v":
        return 1
    if isinstance(problem, FiniteMDP):
        actions = problem.target.shape[1]
    else:
        if isinstance(problem, ControlProblem):
            rows = control_actions(problem, problem_shape(problem, given=False)).rows
        else:
            rows = logged_actions(problem, settings.features == "given").rows
        if not rows.discrete:
            return 1
        actions = rows.size
    if actions == 1:
        raise UsageError(
            f"--values q: {problem.name} has a single action, so that values of actions are those "
            "of states"
        )
    return actions


def saved_actions(settings: dict[str, Any], task: Task) -> dict[str, Any] | None:
    """Return what `value.pt` holds of actions; None for values of states.

    settings: of the run, as they are stored
    """
    actions = task.actions
    if actions is None:
        return None
    discrete, bounds = actions.rows.discrete, None
    if isinstance(actions.kind, BoxActions):
        ends = (actions.kind.low, actions.kind.high)
        low, high = (torch.from_numpy(end.astype("float64")).flatten() for end in ends)
        bounds = (low, high)
    name, keywords = _named_policy(settings, actions.rows.size if discrete else None)
    return action_record(
        actions.rows,
        lowest=actions.lowest,
        bounds=bounds,
        policy=None if actions.probability is not None else name,
        settings=keywords,
        probability=actions.probability,
    )


def _named_policy(
    settings: dict[str, Any], actions: int | None
) -> tuple[str, dict[str, Any] | None]:
    """Return module:function of the evaluated policy, and the keywords where it makes the policy.

    A policy of the user's own is itself the function.
    """
    policy = settings["policy"]
    if policy is not None and (":" in policy or is_file(policy)):
        return policy_maker(policy)
    keywords = {"problem": settings["problem"], "target": policy, "actions": actions}
    return "envs.control.problems:target_policy", keywords
