"""The streams that methods and the search learn from: whole, on the device to learn on."""

from operator import itemgetter

import torch

from agents.task import Task, experience_on
from envs.logs.logged_problem import LoggedProblem
from experiments.evaluate_policy.parts.plan import EvaluationPlan
from neural_tdc.baselines.log_preparation import ordered_stream, parts_of
from neural_tdc.best_value import FOLDS
from neural_tdc.byte_rows import in_given_units
from neural_tdc.learning.experience import with_observations
from neural_tdc.types import Transition, mapped


def run_streams(task: Task, device: torch.device) -> list[Transition]:
    """Return the stream of every run, [time, …], on a device, with observations as in the task.

    They are moved to the device once, all together. Pictures stay bytes there.
    """
    experience = experience_on(task.experience, device)
    found = []
    for run, index in enumerate(experience.stream_index.tolist()):
        stream = mapped(experience.transitions, itemgetter(index))
        if experience.rows is not None:
            stream = mapped(stream, itemgetter(experience.rows[run]))
        if experience.table is not None:
            stream = with_observations(experience, stream)
        found.append(stream)
    return found


def first_stream(plan: EvaluationPlan, task: Task) -> Transition:
    """Return the stream that the first run of a rule learns from, [time, …], on its device.

    Its observations are as in the task. Of a log without rules it is all, since nothing needs a
    part of its own to measure on: every part is held out once. Raises ValueError where it is too
    short to choose from.
    """
    if isinstance(plan.problem, LoggedProblem):
        used = task.experience.transitions.reward.shape[1] if plan.rules or plan.methods else None
        # In the precision of the file.
        stream = mapped(plan.problem.plain(slice(used)), lambda leaf: leaf[0])
        if task.shift is not None and task.scale is not None:
            stream = stream._replace(
                observation=in_given_units(stream.observation, task.shift, task.scale),
                next_observation=in_given_units(stream.next_observation, task.shift, task.scale),
            )
        stream = mapped(stream, lambda leaf: leaf.to(plan.device))
    else:
        experience = experience_on(task.experience, plan.device)
        stream = mapped(experience.transitions, itemgetter(0))
        if experience.table is not None:
            stream = with_observations(experience, stream)
    parts_of(ordered_stream(stream), FOLDS)
    return stream
