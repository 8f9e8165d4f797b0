"""What `value.pt` holds of a rule's run, a method's and a search, for `neural_tdc.load_value`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.task import Task
from experiments.evaluate_policy.learning.shared import Shared
from experiments.evaluate_policy.parts.actions import saved_actions
from neural_tdc.baselines.feature_blocks import module_parameters
from neural_tdc.baselines.linear_value import FEATURE_BLOCKS
from neural_tdc.best_value import BestValue
from neural_tdc.types import Measurement
from neural_tdc.value_file import description


def rule_value(last: Measurement, shared: Shared) -> dict[str, Any]:
    """Return the value functions of all runs of a rule after its last measurement."""
    settings, plan, task = shared.settings, shared.plan, shared.task
    make = None
    if plan.make_body is not None:
        # A body of the user's own is called with the observation's shape alone.
        keywords = getattr(plan.make_body, "keywords", {})
        make = {"name": settings["body"], "settings": keywords, "seed": settings["seed"]}
    parameters, actions = last.parameters, task.actions
    shape = task.example.shape[1:] if actions is None else actions.rows.observation_shape
    return description(
        parameters.body,
        parameters.head,
        last.diverged,
        make=make,
        observation_shape=tuple(shape),
        shift=task.shift,
        scale=task.scale,
        table=task.table,
        actions=saved_actions(settings, task),
    )


def method_value(last: Measurement, task: Task) -> dict[str, Any]:
    """Return the value functions of all runs of a method: its blocks of features and the heads."""
    parameters, _, blocks = last.state
    shape = task.example.shape[1:]
    return _of_blocks(blocks, parameters.body, parameters.head, last.diverged, shape, task)


def saved_choice(best: BestValue, task: Task) -> dict[str, Any]:
    """Return the value function that a search chose, as that of one run."""
    blocks, parameters = module_parameters(best.value.blocks)
    body = {key: tensor[None] for key, tensor in parameters.items()}
    lost = torch.zeros(1, dtype=torch.bool)
    limited = any(math.isfinite(bound) for bound in best.value.limits)
    limits = best.value.limits if limited else None
    head = best.value.head[None]
    return _of_blocks(blocks, body, head, lost, best.observation_shape, task, limits)


def _of_blocks(
    blocks: Any,
    body: dict[str, Tensor],
    head: Tensor,
    diverged: Tensor,
    shape: Sequence[int],
    task: Task,
    limits: tuple[float, float] | None = None,
) -> dict[str, Any]:
    return description(
        body,
        head,
        diverged,
        make={"name": FEATURE_BLOCKS, "settings": {"blocks": blocks}, "seed": 0},
        observation_shape=tuple(shape),
        shift=task.shift,
        scale=task.scale,
        table=task.experience.table if task.states is not None else None,
        limits=limits,
    )
