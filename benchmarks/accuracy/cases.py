"""The cases of the accuracy benchmark: a log, and the truth that no method sees."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.policy_evaluation import chain_task, control_task
from agents.task import Task
from benchmarks.accuracy.collection import Log, Problem, collect, truth
from benchmarks.accuracy.designed_problems import DESIGNED_PROBLEMS
from benchmarks.accuracy.problems import PROBLEMS
from envs.control.problems import control_problem
from envs.finite.standard_problems import problem as standard_problem
from neural_tdc.types import Transition, mapped

TRANSITIONS = 20_000
# States and returns of the Monte Carlo truth of Gymnasium problems.
STATES, ROLLOUTS = 300, 20


class Case(NamedTuple):
    """One log of one problem.

    stream:      [time, …] raw observations and rewards
    off_policy:  whether another policy acts
    observation, value, weighting: [state] where the truth is known
    noise:       mean square of the truth's own standard errors
    log, discount, policy: what the plain programs need; None where they are not run
    """

    stream: Transition
    off_policy: bool
    observation: Tensor
    value: Tensor
    weighting: Tensor
    noise: float
    log: Log | None = None
    discount: float = 1.0
    policy: np.ndarray | None = None


def simulated_case(problem: Problem, seed: int) -> Case:
    """Return a case of a simulator, with a log for the plain programs."""
    log, _ = collect(problem, TRANSITIONS, seed)
    known = truth(problem, seed)
    columns = (
        log.observation,
        log.reward,
        problem.discount * (1 - log.terminated),
        log.next_observation,
        log.ratio,
        np.r_[1, (log.terminated | log.truncated)[:-1]],
    )
    return Case(
        Transition(*(torch.as_tensor(np.asarray(each, dtype=np.float64)) for each in columns)),
        problem.behaviour is not None,
        torch.as_tensor(known.observation, dtype=torch.float64),
        torch.as_tensor(known.value, dtype=torch.float64),
        torch.full((len(known.value),), 1 / len(known.value), dtype=torch.float64),
        float(np.square(known.error).mean()),
        log,
        problem.discount,
        known.policy,
    )


def _case(task: Task) -> Case:
    stream, table = mapped(task.experience.transitions, lambda leaf: leaf[0]), task.experience.table
    if table is not None:
        stream = stream._replace(
            observation=table[stream.observation.long()],
            next_observation=table[stream.next_observation.long()],
        )
    known = task.truth
    assert known is not None
    return Case(
        mapped(stream, Tensor.double),
        bool((stream.ratio != 1).any()),
        known.observation.double().flatten(1),
        known.value.double(),
        known.weighting.double(),
        known.squared_error,
    )


def _control(name: str, behaviour: str | None) -> Callable[[int], Case]:
    def case(seed: int) -> Case:
        problem = control_problem(name, None, behaviour, None)
        return _case(
            control_task(
                problem,
                runs=1,
                transitions=TRANSITIONS,
                seed=seed,
                states=STATES,
                rollouts=ROLLOUTS,
            )
        )

    return case


def _chain(name: str) -> Callable[[int], Case]:
    def case(seed: int) -> Case:
        problem = standard_problem(name)
        return _case(chain_task(problem, given=False, runs=1, transitions=TRANSITIONS, seed=seed))

    return case


def _simulated(make: Callable[[], Problem]) -> Callable[[int], Case]:
    return lambda seed: simulated_case(make(), seed)


# Problems that families, grids and the criterion were chosen on.
DESIGNED: dict[str, Callable[[int], Case]] = {
    "MountainCar": _control("MountainCar-v0", None),
    "CartPole": _control("CartPole-v1", None),
    "Acrobot": _control("Acrobot-v1", None),
    "MountainCar from soft": _control("MountainCar-v0", "soft"),
    "CartPole from soft": _control("CartPole-v1", "soft"),
    "CartPole from uniform": _control("CartPole-v1", "uniform"),
    "garnet-0": _chain("garnet-0"),
    "garnet-1": _chain("garnet-1"),
    "garnet-off-policy-0": _chain("garnet-off-policy-0"),
    "garnet-off-policy-1": _chain("garnet-off-policy-1"),
    "garnet-off-policy-2": _chain("garnet-off-policy-2"),
    "random-walk-tabular": _chain("random-walk-tabular"),
    **{name: _simulated(make) for name, make in DESIGNED_PROBLEMS.items()},
}


def made_case(name: str, seed: int) -> Case:
    """Return a log of the problem of this name, and its truth."""
    return DESIGNED[name](seed) if name in DESIGNED else simulated_case(PROBLEMS[name](), seed)
