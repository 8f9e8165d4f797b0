"""The value of a policy, ρ(π): the mean of V over the starts of the data's episodes."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from agents.task import Task
from agents.task_actions import start_places
from neural_tdc.metrics.evaluators import at_home, features_in_double
from neural_tdc.metrics.parts_of_runs import on_threads
from neural_tdc.types import Evaluator, FeatureMap, Parameters

START_VALUE = "value/starts"
# Features that are held at a time.
_AT_ONCE = 2**25


class Starts(NamedTuple):
    """Where the episodes of the data start.

    observation: [start, *observation] as a learner sees them, or several rows a start, one after
        another, whose mean value is its value
    weight:      [run, start] of each run, a row sums to 1; one row where all runs share them
    """

    observation: Tensor
    weight: Tensor


def start_states(task: Task) -> Starts:
    """Return the starts of a task's data, at most `MOST_STARTS`, with their weights.

    They are those of all streams for every run alike. Of resampled data a run has each start as
    often as it has its row; one that has none of them has them all.
    """
    experience, actions = task.experience, task.actions
    transitions, table, rows = experience.transitions, experience.table, experience.rows
    stream, time = start_places(transitions)
    observation = transitions.observation[stream, time]
    rows_known = actions is not None and actions.starts is not None
    if actions is not None and actions.starts is not None:
        observation = actions.starts.flatten(0, 1)
    elif actions is not None:
        observation = actions.state_rows(observation)
    weight = torch.ones(1, len(time), dtype=torch.float64, device=time.device)
    if rows is not None:
        length = rows.shape[1]
        weight = torch.stack([torch.bincount(row, minlength=length)[time] for row in rows])
        none = ~weight.any(1, keepdim=True)
        weight = torch.where(none, torch.ones_like(weight), weight).double()
    if table is not None and not rows_known:
        # Many starts in few states.
        observation, number = observation.unique(return_inverse=True)
        weight = weight.new_zeros(len(weight), len(observation)).index_add(1, number, weight)
        observation = experience.observed(observation)
    return Starts(observation, weight / weight.sum(1, keepdim=True))


def with_start_values(
    evaluator: Evaluator, features: FeatureMap, starts: Starts, threads: int | None = None
) -> Evaluator:
    """Return an evaluator that also measures the mean value of the starts, as `value/starts`.

    threads: that share the runs of a population on the CPU
    """
    observation = starts.observation

    def one(parameters: Parameters, weight: Float[Tensor, " start"]) -> Tensor:
        values = features_in_double(features, parameters.body, observation) @ parameters.head
        return weight @ values.view(len(weight), -1).mean(1)

    def of_runs(runs: tuple[Parameters, Tensor]) -> dict[str, Tensor]:
        chunk = max(1, _AT_ONCE // (len(observation) * runs[0].head.shape[1]))
        return {START_VALUE: torch.vmap(one, chunk_size=chunk)(*runs)}

    values = on_threads(threads, of_runs)

    def evaluate_both(parameters: Parameters) -> dict[str, Tensor]:
        weight = starts.weight.expand(len(parameters.head), -1)
        return {**evaluator(parameters), **values((parameters, weight))}

    return at_home(evaluate_both, observation.device)
