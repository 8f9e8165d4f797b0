"""A prediction problem made ready on a device, with the experience of its runs.

What a `Task` holds depends on the seed and on the numbers of runs and transitions alone, never on a
rule or a step size, so that all rules and step sizes of one seed learn from the same experience and
are measured by the same truth.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from agents.task_actions import TaskActions
from envs.control.problems import ControlProblem
from envs.finite.finite_mdp import FiniteMDP
from envs.logs.logged_problem import LoggedProblem
from neural_tdc.learning.experience import Experience
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.randomness import keys
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Evaluator, FeatureMap, Transition

# Observations that rules may scale their own features by and that a body is tried on.
EXAMPLES = 256

OnTaskProgress = Callable[[str, int, int], None]


class Task(NamedTuple):
    """A prediction problem on a device.

    name:        the problem's name
    experience:  one stream a run
    example:     [sample, *observation] observations a learner may see beforehand
    evaluator:   from a feature map and a rule to the evaluator of a population
    features_given:  whether the observations are the features
    head:        [feature] θ₀ that the problem prescribes for its given features, else None
    states:      number of states of a finite chain, None elsewhere
    truncates:   whether episodes are cut by a time limit
    shift, scale: what observations had subtracted and were divided by, both of an observation's
        shape; None on a chain
    notes:       lines worth printing, such as the size of the truth's own error
    truth:       the value at some observations of the streams' kind; None where there is none, as
        with a log
    resampled:   what the runs but the first drew of one stream, in words such as "30 episodes"; ""
        for runs with streams as they are
    actions:     how the rows of values of actions are made, which then take the place of
        observations everywhere here; None for values of states
    table:       [state, *observation] what is seen of every state of a finite chain
    """

    name: str
    experience: Experience
    example: Tensor
    evaluator: Callable[[FeatureMap, Rule], Evaluator]
    features_given: bool
    head: Tensor | None
    states: int | None
    truncates: bool
    shift: Tensor | None
    scale: Tensor | None
    notes: tuple[str, ...]
    truth: Truth | None = None
    resampled: str = ""
    actions: TaskActions | None = None
    table: Tensor | None = None


def known_parts(
    problem: FiniteMDP | ControlProblem | LoggedProblem, *, states: int = 1
) -> set[str]:
    """Return what is known of a problem for measuring, in the words of `metric.NEEDS`.

    states: where the truth of a Gymnasium problem is estimated; 0 for no truth
    """
    if isinstance(problem, FiniteMDP):
        return {"truth"}
    if isinstance(problem, LoggedProblem) or states == 0:
        return {"held_out"}
    return {"truth", "held_out"}


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore how far the making of a task is; see `OnTaskProgress`."""


def stream_experience(
    streams: Transition,
    table: Tensor | None,
    runs: int,
    seed: int,
    device: torch.device | str,
    of_actions: bool = False,
) -> Experience:
    """Return the experience of runs with one stream each.

    streams: leaves [stream, time, …]; table: [row, …] observations by number, None where the
    streams hold the observations themselves
    """
    stream_index = torch.arange(runs, device=device)
    key = keys(seed, runs, "sampling").to(device)
    return Experience(streams, table, stream_index, key, of_actions=of_actions)


def experience_on(experience: Experience, device: torch.device) -> Experience:
    """Return the experience on the device to learn on, where the task is made on another one."""
    moved: Experience = tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, experience
    )
    return moved


def truncates(streams: Transition) -> bool:
    """Return whether an episode of the streams was cut: a start that no end stands before."""
    if streams.first is None:
        return False
    return bool(((streams.first[:, 1:] == 1) & (streams.discount[:, :-1] > 0)).any())
