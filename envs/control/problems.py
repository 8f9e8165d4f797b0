"""Prediction problems on Gymnasium environments: which policy to evaluate, and who acts."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium

from envs.control.actions import Actions, BoxActions, DiscreteActions, actions_of
from envs.control.environments import (
    checked_observation,
    make,
    observation_encoder,
    parts_left_out,
)
from envs.control.global_chance import kept_global_state
from envs.control.importance import importance_ratios
from envs.control.inspection import inspected
from envs.control.policies import POLICIES, Policy
from envs.control.policy_modes import settle
from envs.names import closest_names


class ControlProblem(NamedTuple):
    """What is to be predicted, and from whose experience.

    name:       what messages call it
    make:       function that makes one environment, time limit included
    target:     the policy whose value is sought
    behaviour:  the policy that acts; the same function on-policy
    discount:   γ in [0, 1]
    ratio_limit: the largest importance ratio; greater ones are lowered to it
    notes:      lines that a program should print, e.g. that a policy was chosen for the user
    """

    name: str
    make: Callable[[], gymnasium.Env]
    target: Policy
    behaviour: Policy
    discount: float = 0.99
    notes: tuple[str, ...] = ()
    ratio_limit: float = math.inf


def _registered(name: str) -> ControlProblem:
    policy = POLICIES[name]["default"]
    return ControlProblem(name, lambda: make(name), policy, policy)


CONTROL_PROBLEMS: dict[str, ControlProblem] = {name: _registered(name) for name in POLICIES}


def _resolved(role: str, given: str | Policy, name: str, actions: Actions) -> Policy:
    if not isinstance(given, str):
        return given
    if given == "uniform":
        return actions.uniform()
    known = POLICIES.get(name, {})
    if given not in known:
        names = (*known, "uniform")
        matches = closest_names(given, names) or sorted(names)
        raise ValueError(
            f"unknown {role} policy {given!r} for {name}; policies by name: {', '.join(matches)}"
        )
    return known[given]


def target_policy(problem: str, target: str | None, actions: int | None) -> Policy:
    """Return the policy that `control_problem` evaluates by this name.

    actions: the number of discrete actions; None to ask the environment for its actions

    ValueError: there is no policy of this name, or no such environment.
    """
    name = target or ("default" if problem in CONTROL_PROBLEMS else "uniform")
    if actions is not None:
        return _resolved("target", name, problem, DiscreteActions(problem, actions, 0))
    environment = make(problem)
    try:
        return _resolved("target", name, problem, actions_of(problem, environment.action_space))
    finally:
        environment.close()


def _first_observation(name: str, environment: gymnasium.Env) -> Any:
    answer = environment.reset(seed=0)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(
            f"{name} returned a {type(answer).__name__} from reset; it must return (observation, "
            "info), as environments of Gymnasium do"
        )
    return answer[0]


@kept_global_state()
def control_problem(
    problem: str | Callable[[], gymnasium.Env],
    target: str | Policy | None = None,
    behaviour: str | Policy | None = None,
    discount: float | None = None,
    ratio_limit: float = math.inf,
) -> ControlProblem:
    """Set up a prediction problem on an environment, and try it and its policies beforehand.

    Faults of the environment that make experience differ from what it should be are mended where
    they can be (`envs.control.inspection`), networks in training mode are put into eval mode
    (`envs.control.policy_modes`), each with a line in `notes`.

    problem:    a Gymnasium id (`module:ID` imports the module first), or a function that makes
                an environment
    target:     a function or an object as `envs.control.actions` tells, such as one from raw
                observations [n, …] to probabilities [n, actions]; or a name: "default", "soft"
                (more random) for the environments in `CONTROL_PROBLEMS`, "uniform" for all. Left
                out: "default" where there is one, else "uniform", which a note says
    behaviour:  likewise; left out: the target, that is on-policy
    discount:   γ in [0, 1], 0.99 if left out
    ratio_limit: importance ratios are lowered to it; none if left out

    ValueError: unknown names, an environment that cannot be made, actions of another kind,
    observations without a fixed size, a policy that does not return what it should or that answers
    the same observation differently twice.
    """
    name = problem if isinstance(problem, str) else getattr(problem, "__name__", repr(problem))
    known = CONTROL_PROBLEMS.get(name) if isinstance(problem, str) else None
    gamma = 0.99 if discount is None else discount
    if not 0 <= gamma <= 1:
        raise ValueError(f"discount {gamma}: it must lie between 0 and 1")
    if not ratio_limit > 0:
        raise ValueError(f"ratio limit {ratio_limit}: it must be above 0")
    maker = (lambda: make(problem)) if isinstance(problem, str) else problem
    environment = maker()
    if not isinstance(environment, gymnasium.Env):
        raise ValueError(f"{name} made {type(environment).__name__}; it must make a gymnasium.Env")
    try:
        for what in ("observation_space", "action_space"):
            if not isinstance(space := getattr(environment, what, None), gymnasium.Space):
                raise ValueError(f"{name} has the {what} {space}; it must be a gymnasium.Space")
        actions = actions_of(name, environment.action_space)
        shape, encode = observation_encoder(name, environment.observation_space)
        notes: tuple[str, ...] = ()
        if target is None and known is None:
            notes = (f"{name} has no policy of its own here: the uniform random one is evaluated",)
        if left_out := parts_left_out(environment.observation_space):
            what = f"{', '.join(left_out)} of the observations of {name}"
            notes += (f"{what} holds no numbers and is left out",)
        default = "default" if known else "uniform"
        resolved = _resolved("target", default if target is None else target, name, actions)
        acting = resolved
        if behaviour is not None and behaviour != target:
            acting = _resolved("behaviour", behaviour, name, actions)
        sample = checked_observation(name, shape, encode(_first_observation(name, environment)))
        # Three rows of one observation: a policy that forgets the leading axis shows here.
        rows = sample[None].repeat(3, axis=0)
        for policy in (resolved,) if acting is resolved else (resolved, acting):
            notes += settle(policy, partial(actions.answers, policy, rows))
        if acting is not resolved and isinstance(actions, BoxActions):
            # What has no density is refused before anything is collected.
            importance_ratios(actions, resolved, acting, rows, actions.answers(acting, rows))
    finally:
        environment.close()
    maker, faults = inspected(name, maker, shape, encode)
    notes += faults
    return ControlProblem(name, maker, resolved, acting, float(gamma), notes, ratio_limit)
