"""Learned values at states of the truth and at observations of the data, for figures and tables."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.task import Task
from experiments.runs.command_line.checks import UsageError
from neural_tdc.metrics.evaluators import Truth
from neural_tdc.randomness import generator
from neural_tdc.value_function import ValueFunction

# Observations of the data that are drawn, and that components are compared by; and numbers that are
# drawn, where the observations are large.
_DRAWN, _COMPARED, _NUMBERS = 1_500, 256, 2**20
# Of more components than this the first ones are compared: an image has thousands.
_COMPONENTS = 64


class ValuesAt(NamedTuple):
    """Values at some observations.

    observation: [point, component] raw; of a finite chain the number of the state alone
    learned:     [point] mean over the runs that did not diverge; of run 0 with resampled data
    spread:      [point] standard deviation over these runs, 0 for one
    true:        [point] the true values; None where they are not known
    """

    observation: np.ndarray
    learned: np.ndarray
    spread: np.ndarray
    true: np.ndarray | None = None


def check_components(components: Sequence[int] | None, task: Task) -> None:
    """Raise UsageError where an observation has fewer components than are asked for."""
    size = math.prod(_states(task, task.example).shape[1:])
    if components is not None and max(components) >= size:
        raise UsageError(
            f"--value-dimensions {' '.join(map(str, components))}: the observations of {task.name} "
            f"have {size} components, numbered from 0 to {size - 1}"
        )


def values_at(
    value: ValueFunction, observation: Tensor, task: Task, true: Tensor | None = None
) -> ValuesAt:
    """Return the values at observations [point, …] as the task has them, or at numbers of states.

    Raises ValueError where all runs diverged.
    """
    raw = observation.cpu()
    if task.shift is not None and task.scale is not None:
        raw = raw.double() * task.scale.cpu() + task.shift.cpu()
    of_runs = value.of_runs(raw)[~value.diverged].double()
    if not len(of_runs):
        raise ValueError("all runs diverged")
    alone = bool(task.resampled) and not bool(value.diverged[0])
    learned = of_runs[0] if alone else of_runs.mean(0)
    spread = of_runs.std(0) if len(of_runs) > 1 else torch.zeros_like(learned)
    return ValuesAt(
        raw.double().reshape(len(raw), -1).numpy(),
        learned.numpy(),
        spread.numpy(),
        None if true is None else true.double().cpu().numpy(),
    )


def data_observations(task: Task) -> Tensor:
    """Return observations of the data at even distances, as the task has them."""
    observation = task.experience.transitions.observation.flatten(0, 1)
    drawn = min(_DRAWN, max(_COMPARED, _NUMBERS // task.example[0].numel()))
    kept = torch.linspace(0, len(observation) - 1, min(len(observation), drawn)).long()
    seen = observation[kept.to(observation.device)]
    if task.experience.table is not None and task.states is None:
        return task.experience.observed(seen)
    return _states(task, seen)


def _states(task: Task, observation: Tensor) -> Tensor:
    """Return what is seen of states alone, where the task has rows of states and actions."""
    return observation if task.actions is None else task.actions.rows.observation(observation)


def truth_states(task: Task, truth: Truth) -> Tensor:
    """Return the states of a truth for `values_at`: of a finite chain their numbers."""
    if task.states is not None:
        return torch.arange(len(truth.value))
    # Several rows a state where actions are continuous.
    draws = len(truth.observation) // len(truth.value)
    return _states(task, truth.observation[::draws])


def influences(
    value: ValueFunction, observation: Tensor, task: Task
) -> Float[np.ndarray, " component"]:
    """Return how much each component of the observation matters to V, in units of value.

    It is the root mean square change of V where the component is that of another observation of
    the data, and NaN for components that are not compared.
    """
    kept = torch.linspace(0, len(observation) - 1, min(len(observation), _COMPARED)).long()
    some = observation[kept.to(observation.device)].cpu()
    flat = some.flatten(1)
    order = torch.randperm(len(some), generator=generator(0, "influence"))
    found = np.full(flat.shape[1], np.nan)
    learned = values_at(value, some, task).learned
    for component in range(min(flat.shape[1], _COMPONENTS)):
        changed = flat.clone()
        changed[:, component] = flat[order, component]
        moved = values_at(value, changed.view_as(some), task).learned
        found[component] = np.sqrt(np.square(moved - learned).mean())
    return found


def drawn_components(
    value: ValueFunction, observation: Tensor, task: Task, wanted: Sequence[int] | None
) -> list[int]:
    """Return the two components to draw V over, those with the largest influence if not given."""
    if wanted is not None:
        return list(wanted)
    found = np.nan_to_num(influences(value, observation, task), nan=-1.0)
    return sorted(np.argsort(-found, kind="stable")[:2].tolist())
